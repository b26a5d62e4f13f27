"""Arrays as a client sends them, in the shapes and types of a bundle's inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vlacut.errors import ObservationError
from vlacut.tensor import TensorSpec

_CHANNELS = (1, 3, 4)


def array_of(key: str, value: Any) -> np.ndarray:
    """Numbers as an array."""
    array = value
    if not isinstance(value, np.ndarray):
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise ObservationError(f"{key}: its lists are not of one length") from error
    if array.dtype.kind not in "biuf":
        what = "text" if array.dtype.kind in "US" else "no numbers"
        raise ObservationError(
            f"{key}: is {what}, and the bundle takes tensors; what it was compiled for stays, with "
            f"--map {key}="
        )
    found: np.ndarray = array
    return found


def joined(name: str, given: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    try:
        return np.concatenate([np.atleast_1d(array) for _, array in given], axis=-1)
    except ValueError as error:
        shapes = ", ".join(f"{key} {list(array.shape)}" for key, array in given)
        raise ObservationError(f"{name}: cannot join {shapes} along the last axis") from error


def fitted(
    key: str, array: np.ndarray, spec: TensorSpec, span: tuple[float, float] | None
) -> np.ndarray:
    """An array as an input takes it; ObservationError, with its key, if it cannot be.

    Args:
        key: the client's, for the error.
        array: as it was sent.
        spec: of the input.
        span: what 0 and 255 of a picture in bytes become; None where nobody says.
    """
    return _typed(key, _shaped(key, array, spec), spec, span)


def _shaped(key: str, array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """The array in the input's shape, if only axes of 1 or the order of a picture differ."""
    shape = spec.numpy_shape
    if array.shape == shape:
        return array
    lead = len(shape) - array.ndim
    if lead >= 0 and all(dim == 1 for dim in shape[:lead]):
        if array.shape == shape[lead:]:
            return array.reshape(shape)
        turned = _turned(array)
        if turned is not None and turned.shape == shape[lead:]:
            return turned.reshape(shape)
    if array.size == 1 and math.prod(shape) == 1:
        return array.reshape(shape)
    more = ""
    if array.shape == shape[1:]:  # a policy that remembers, and a client that sends one at a time
        more = f"; it reads {shape[0]} of them, the oldest first, and one was sent"
    if _is_other_size(array.shape, shape):
        more = "; it is not resized here: do that where it is sent, openpi by its image_tools"
    raise ObservationError(
        f"{key}: shape is {list(array.shape)}; input {spec.name} takes {list(shape)} of "
        f"{spec.dtype}, where leading ones may be left out{more}"
    )


def _is_other_size(given: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether both are pictures of as many channels, and only their sizes differ."""
    one, other = (tuple(shape[-3:]) for shape in (given, wanted))
    if len(one) < 3 or len(other) < 3:
        return False
    ends = {one[0], one[-1]} & {other[0], other[-1]}
    return bool(ends & {1, 3, 4})


def _turned(array: np.ndarray) -> np.ndarray | None:
    """A picture with its channels at the other end; None where it is none."""
    if array.ndim < 3:
        return None
    if array.shape[-1] in _CHANNELS:
        return np.moveaxis(array, -1, -3)
    return np.moveaxis(array, -3, -1) if array.shape[-3] in _CHANNELS else None


def _typed(
    key: str, array: np.ndarray, spec: TensorSpec, span: tuple[float, float] | None
) -> np.ndarray:
    """The array in the input's type, where no number is lost."""
    wanted = spec.numpy_dtype
    if array.dtype == np.uint8 and wanted.kind == "f":
        if span is None:
            raise ObservationError(
                f"{key}: is a picture in bytes, and input {spec} takes floats; say what 0 and 255 "
                f"become, e.g. --map {key}={spec.name}:-1..1"
            )
        low, high = span
        scaled = array.astype(wanted)
        scaled *= (high - low) / 255
        scaled += low
        return scaled
    if array.dtype == wanted:
        return array
    carried = wanted.name != spec.dtype  # a type that numpy lacks, in a carrier of its width
    lossy = array.dtype.kind == "f" and wanted.kind != "f"
    if carried or lossy or "b" in (array.dtype.kind, wanted.kind):
        raise ObservationError(f"{key}: dtype is {array.dtype}, and input {spec} takes {wanted}")
    made = array.astype(wanted)
    if wanted.kind != "f" and not np.array_equal(made, array):
        raise ObservationError(f"{key}: holds numbers beyond {wanted}, which input {spec} takes")
    return made
