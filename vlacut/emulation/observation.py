"""What the twin observes: nothing, in pictures as large on the wire as they are planned."""

from __future__ import annotations

import numpy as np

from vlacut.plans.instructions import Transfer, flatten
from vlacut.plans.plan import Plan
from vlacut.runtime.wire.codecs import Coder, coder_of
from vlacut.tensor import TensorSpec
from vlacut.tensor.codec import Codec
from vlacut.tensor.picture import by_picture, pictures_in


def planned_observation(plan: Plan) -> dict[str, np.ndarray]:
    """Zeros by name, in the shapes of the plan's inputs; pictures that are coded have noise in so
    many rows that their bytes are the plan's.

    Those are the bytes of the first variant that codes them, as nearly as whole rows allow. Raises
    InputError if the library of a codec is not there.
    """
    made = {spec.name: np.zeros(spec.numpy_shape, spec.numpy_dtype) for spec in plan.inputs}
    for key, (codec, nbytes) in _coded(plan).items():
        made[key] = _noisy(plan.spec[key], codec, nbytes)
    return made


def _coded(plan: Plan) -> dict[str, tuple[Codec, int]]:
    """Codec and bytes of the pictures of the observation."""
    found: dict[str, tuple[Codec, int]] = {}
    names = {spec.name for spec in plan.inputs}
    for variant in plan.variants:
        for item in flatten(variant.schedule):
            for key, codec in item.coded if isinstance(item, Transfer) else ():
                if codec.varies and key in names:
                    found.setdefault(key, (codec, plan.sent_bytes(variant, [(key, codec)])))
    return found


def _noisy(spec: TensorSpec, codec: Codec, nbytes: int) -> np.ndarray:
    """Pictures that a codec writes in so many bytes, as nearly as whole rows of noise allow."""
    pictures = pictures_in(spec)
    assert pictures is not None, f"{codec} takes no {spec}"
    coder = coder_of(codec, spec)
    low, high = 0, pictures.count * pictures.height
    while low < high:
        rows = (low + high) // 2
        if _size(coder, _with_noise(spec, rows)) < nbytes:
            low = rows + 1
        else:
            high = rows
    return _with_noise(spec, low)


def _size(coder: Coder, array: np.ndarray) -> int:
    return coder.encode(array, np.empty(coder.nbytes, np.uint8))


def _with_noise(spec: TensorSpec, rows: int) -> np.ndarray:
    """Grey pictures whose first rows, counted over all of them, are noise."""
    made = np.full(spec.numpy_shape, 128, np.uint8)
    pictures = pictures_in(spec)
    assert pictures is not None
    noise = np.random.default_rng(0).integers(0, 256, made.shape, np.uint8)
    whole, rest = divmod(rows, pictures.height)
    seen, source = by_picture(made, pictures), by_picture(noise, pictures)
    seen[:whole] = source[:whole]
    seen[whole : whole + 1, :rest] = source[whole : whole + 1, :rest]
    return made
