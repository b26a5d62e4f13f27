"""Codecs on this machine: timed through the coders of the runtime, and fitted as they are priced.

Times are the shortest by the thread's own clock, so that what else runs here counts little. What is
fitted (`vlacut.pricing.codec_cost`, `picture_cost`) is linear in what a codec touches; no figure is
negative, and the relative errors have the least squares.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from vlacut.errors import InputError, Progress, unwatched
from vlacut.hardware.codec_speed import JPEG, CodecSpeed, CodecSpeeds
from vlacut.measurement.stopwatch import measure
from vlacut.runtime.wire.codecs import coder_of
from vlacut.tensor import TensorSpec
from vlacut.tensor.codec import Codec, parse_codecs, takes
from vlacut.tensor.picture import pictures_in

TURNS = 5
_SHAPES = ((1, 64), (64, 1024), (280, 4096))
_DTYPES = ("float32", "float64", "float16", "bfloat16")
_SIDES = (16, 224, 512)
_QUALITIES = (50, 75, 90, 95)  # a fit of four says what those between take
_CONVERTED = _DTYPES[1:]
_COLUMNS = ("call_s", "element_s", "bit_s", "planar_s", *_CONVERTED)


@dataclass(frozen=True)
class Timed:
    """A codec on a tensor.

    Attributes:
        codec: how it is written.
        spec: of the tensor.
        nbytes: in coded form.
        encode_s, decode_s: seconds of one call.
    """

    codec: Codec
    spec: TensorSpec
    nbytes: int
    encode_s: float
    decode_s: float


def measure_codecs(source: str, turns: int = TURNS, progress: Progress = unwatched) -> CodecSpeeds:
    """The speeds of every codec that is installed here; `source` says where they are from."""
    runs: list[Callable[[], object]] = []
    cases = [(case, *_runs(*case)) for case in _cases() if _installed(case[0], case[1])]
    for _, encode, decode, _ in cases:
        runs += (encode, decode)
    found = measure(runs, turns, progress, clock=time.thread_time)
    seconds = [each.shortest for each in found]
    timed = [
        Timed(codec, spec, nbytes, seconds[2 * index], seconds[2 * index + 1])
        for index, ((codec, spec), _, _, nbytes) in enumerate(cases)
    ]
    return fit_codecs(timed, source)


def fit_codecs(timed: Sequence[Timed], source: str) -> CodecSpeeds:
    """Speeds that are closest to what was timed."""
    names = dict.fromkeys(_name(each.codec) for each in timed)
    encode, decode = {}, {}
    for name in names:
        mine = [each for each in timed if _name(each.codec) == name]
        encode[name] = _fit(mine, [each.encode_s for each in mine])
        decode[name] = _fit(mine, [each.decode_s for each in mine])
    return CodecSpeeds(encode, decode, source)


def _fit(timed: Iterable[Timed], seconds: Sequence[float]) -> CodecSpeed:
    spent = np.maximum(np.array(seconds), 1e-9)  # a clock may tick too slowly for the shortest
    terms = np.array([_touched(each) for each in timed], float)
    figures, _ = nnls(terms / spent[:, np.newaxis], np.ones_like(spent))
    by_name = dict(zip(_COLUMNS, figures.tolist(), strict=True))
    conversions = {
        dtype: by_name[dtype] for index, dtype in enumerate(_CONVERTED, 4) if terms[:, index].any()
    }
    plain = {name: by_name[name] for name in _COLUMNS[:4]}
    return CodecSpeed(**plain, conversion_s=conversions)


def _touched(timed: Timed) -> tuple[float, ...]:
    """How often a call has what each of `_COLUMNS` is the time of."""
    found = pictures_in(timed.spec) if timed.codec.varies else None
    if found is None:
        size = math.prod(timed.spec.shape)
        return (1, size, 0, 0, *(size * (timed.spec.dtype == dtype) for dtype in _CONVERTED))
    pixels = found.pixels * found.channels / 3
    bits = 8 * timed.nbytes if timed.codec.quality is not None else 0
    return (1, pixels, bits, pixels * found.channels_first, *(0 for _ in _CONVERTED))


def _cases() -> Iterator[tuple[Codec, TensorSpec]]:
    for codec in parse_codecs("all"):
        if codec.quality is not None and codec.quality not in _QUALITIES:
            continue
        for spec in _pictures() if codec.varies else _tensors():
            if takes(codec, spec):
                yield codec, spec


def _tensors() -> Iterator[TensorSpec]:
    for dtype in _DTYPES:
        for shape in _SHAPES:
            yield TensorSpec("x", dtype, shape)


def _pictures() -> Iterator[TensorSpec]:
    for side in _SIDES:
        yield TensorSpec("x", "uint8", (side, side, 3))
        yield TensorSpec("x", "uint8", (3, side, side))


def _installed(codec: Codec, spec: TensorSpec) -> bool:
    try:
        coder_of(codec, spec)
    except InputError:  # a library for pictures is missing: they are priced as elsewhere
        return False
    return True


def _runs(codec: Codec, spec: TensorSpec) -> tuple[Callable[[], object], Callable[[], object], int]:
    """What encodes, what decodes, and how many bytes that is."""
    array = _picture(spec) if codec.varies else _numbers(spec)
    coder = coder_of(codec, spec)
    room, back = np.empty(coder.nbytes, np.uint8), np.empty_like(array)
    nbytes = coder.encode(array, room)
    coded = room[:nbytes].copy()
    return lambda: coder.encode(array, room), lambda: coder.decode(coded, back), nbytes


def _numbers(spec: TensorSpec) -> np.ndarray:
    """Normal numbers, as the type carries them."""
    wide = np.random.default_rng(0).standard_normal(spec.shape).astype(np.float32)
    if spec.dtype == "bfloat16":
        return (wide.view(np.uint32) >> 16).astype(np.uint16)
    return wide.astype(spec.numpy_dtype)


def _picture(spec: TensorSpec) -> np.ndarray:
    """Waves with some noise: about as many bits as a photograph takes."""
    side = max(spec.shape)
    down, right = np.mgrid[:side, :side] / 16.0
    noise = np.random.default_rng(0).normal(0, 6, (side, side, 3))
    waves = np.stack([np.sin(down + right * shift) for shift in (1.0, 0.7, 0.4)], axis=2)
    shown = np.clip(np.rint(128 + 80 * waves + noise), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(shown if spec.shape[-1] == 3 else shown.transpose(2, 0, 1))


def _name(codec: Codec) -> str:
    return JPEG if codec.quality is not None else codec.value
