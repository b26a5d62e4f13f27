"""Numbers: array types, the rounding of sums, inputs to try an engine with, and how far apart two
actions are.

The time of an engine depends on shapes, not on values. So any legal numbers will do to measure it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from vlacut.tensor.picture import Pictures, by_picture, pictures_in
from vlacut.tensor.spec import TensorSpec

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

ROUNDING = 1e-12  # relative: what two ways to add up the same times may differ by
FLOATS, MASKED = 1, 2  # seeds of `probing`: floats alone are drawn anew; masks too


def synthetic(spec: TensorSpec, seed: int = 0) -> np.ndarray:
    """An array of a spec: normal floats, or zeros for other types (zero is always an index)."""
    if spec.dtype not in ("float16", "float32", "float64"):
        return np.zeros(spec.numpy_shape, spec.numpy_dtype)
    numbers = np.random.default_rng(seed)
    return np.asarray(numbers.standard_normal(spec.numpy_shape)).astype(spec.numpy_dtype)


def varied(
    specs: Iterable[TensorSpec], observation: Mapping[str, np.ndarray], seed: int
) -> dict[str, np.ndarray]:
    """Another observation, like the one given. Seed 0 gives the observation itself.

    A float tensor is drawn anew: normal, with the mean and deviation it had. A picture of bytes is
    shifted in its frame, perhaps mirrored, and its contrast and brightness change. Everything else
    stays as it is: other types, constant tensors, and tensors that are not finite.
    """
    made = dict(observation)
    for index, spec in enumerate(specs):
        array, numbers = observation[spec.name], np.random.default_rng((seed, index))
        if seed == 0 or not array.size:
            continue
        if spec.dtype == "uint8":
            pictures = pictures_in(spec)
            if pictures is not None:
                made[spec.name] = _moved(array, pictures, numbers)
        elif spec.dtype in ("float16", "float32", "float64"):
            mean, deviation = (float(one(array, dtype=np.float64)) for one in (np.mean, np.std))
            if deviation > 0 and np.isfinite(deviation):
                drawn = numbers.normal(mean, deviation, array.shape)
                made[spec.name] = drawn.astype(array.dtype)
    return made


def _moved(array: np.ndarray, pictures: Pictures, numbers: np.random.Generator) -> np.ndarray:
    """Pictures shifted around their edges, mirrored or not, contrast and brightness changed."""
    made = np.array(array, order="C")
    seen = by_picture(made, pictures)
    down, right = (int(numbers.integers(side)) for side in (pictures.height, pictures.width))
    shown = np.roll(seen, (down, right), (1, 2)).astype(np.float64)
    if numbers.random() < 0.5:
        shown = shown[:, :, ::-1]
    contrast, light = numbers.uniform(0.8, 1.2), numbers.uniform(-20, 20)
    mean = shown.mean()
    seen[...] = np.clip(np.rint(mean + (shown - mean) * contrast + light), 0, 255)
    return made


def probing(
    specs: Iterable[TensorSpec], observation: Mapping[str, np.ndarray], seed: int
) -> dict[str, np.ndarray]:
    """As `varied`; from seed `MASKED` on, whole numbers change too, within the range they have.

    A tensor of booleans, or of nothing but 0 and 1, is taken for a mask. The seed `MASKED` flips
    the second half of its last axis, as padding would. Later seeds flip elements at random, but
    never the first.
    """
    specs = list(specs)
    made = varied(specs, observation, seed)
    for index, spec in enumerate(specs):
        array = observation[spec.name]
        whole = array.dtype.kind in "biu" and spec.dtype == array.dtype.name
        if seed < MASKED or not array.size or not whole:
            continue  # also where whole numbers carry another type
        numbers, low, high = np.random.default_rng((seed, index)), array.min(), array.max()
        if array.dtype.kind == "b" or (low >= 0 and high <= 1):
            turned = _turned(array, seed, numbers)
            made[spec.name] = np.where(turned, 1 - array.astype(np.int64), array).astype(
                array.dtype
            )
        elif high > low:
            made[spec.name] = numbers.integers(low, high, array.shape, array.dtype, endpoint=True)
    return made


def _turned(array: np.ndarray, seed: int, numbers: np.random.Generator) -> np.ndarray:
    """Which elements of a mask are turned over."""
    last = array.shape[-1] if array.ndim else 1
    if last == 1:
        return np.ones(array.shape, bool)
    places = np.arange(last)
    if seed == MASKED:
        return np.broadcast_to(places >= (last + 1) // 2, array.shape)
    return (numbers.random(array.shape) < 0.5) & (places > 0)


def readable(array: np.ndarray, dtype: str) -> np.ndarray:
    """The numbers of a tensor of this type, as it is carried at run time: bfloat16 widened."""
    if dtype != "bfloat16":
        return array
    return (array.astype(np.uint32) << 16).view(np.float32)


def has_nan(array: np.ndarray, dtype: str) -> bool:
    """Whether a tensor of this type, as it is carried at run time, holds a NaN."""
    if dtype == "bfloat16":
        return bool(((array & 0x7FFF) > 0x7F80).any())
    if array.dtype.kind != "f":
        return False
    if array.dtype.itemsize >= 4:  # a product that BLAS sums: a tenth of what isnan takes
        flat = array.reshape(-1)
        with np.errstate(all="ignore"):
            return bool(np.isnan(np.dot(flat, flat)))
    return bool(np.isnan(array).any())


def largest_difference(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> float:
    """Largest absolute difference over tensors of the same names.

    Two NaNs are alike, and so are two equal infinities. The result is NaN if only one has a NaN.
    """
    pairs = ((one[name].astype(np.float64), other[name].astype(np.float64)) for name in other)
    return float(np.max([_apart(left, right) for left, right in pairs]))


def _apart(left: np.ndarray, right: np.ndarray) -> float:
    alike = (left == right) | (np.isnan(left) & np.isnan(right))
    return float(np.max(np.abs(left[~alike] - right[~alike]), initial=0))


def magnitude(action: Mapping[str, np.ndarray], *, finite: bool = False) -> float:
    """Largest magnitude over all tensors of an action; NaN if the action holds one.

    With `finite`, only finite numbers count: masks hold infinities.
    """
    arrays = (np.abs(array.astype(np.float64)) for array in action.values())
    kept = (array[np.isfinite(array)] if finite else array for array in arrays)
    return float(np.max([np.max(array, initial=0) for array in kept]))


def relative_difference(
    action: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]
) -> float:
    """The largest difference as a share of the reference's magnitude; infinite if it is NaN.

    If the reference is all zeros, the result is 0 for an action of zeros, and infinite otherwise.
    """
    difference, scale = largest_difference(action, reference), magnitude(reference)
    if difference == 0:
        return 0.0
    ratio = difference / scale if scale else float("inf")
    return ratio if ratio == ratio else float("inf")
