"""Packing: msgpack with numpy, as openpi-client has it (packages/openpi-client of
github.com/Physical-Intelligence/openpi, msgpack_numpy.py).

An array is a map with the keys `__ndarray__` (true), `data` (its bytes in C order), `dtype`
(numpy's `dtype.str`) and `shape`; a number of numpy's one with `__npgeneric__`, `data` and `dtype`.
The keys are of msgpack's bytes; vLLM-omni's clients also send them as text.

Whoever sends them, bytes are no program: kinds are those of numbers and text, sizes must be what
the data has, and nothing that a header claims is allocated.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np

from vlacut.errors import WireError

_ARRAY, _NUMBER = "__ndarray__", "__npgeneric__"
_DTYPE = re.compile(r"[<>|=]?[biufSU]\d{1,9}")  # numbers, booleans, text; no objects, no records
_MOST_AXES = 32
_MOST_ENTRIES = 512  # of a map or a list: msgpack makes room for as many as a header claims
_MOST_DEPTH = 16


def pack(value: Any) -> bytes:
    """The bytes of a value: maps, lists, text, numbers, arrays.

    Raises WireError for what openpi's clients cannot read.
    """
    try:
        packed: bytes = msgpack.packb(value, default=_marked)
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"cannot be packed for a client of openpi: {error}") from error
    return packed


def unpack(data: bytes) -> Any:
    """The value of bytes; arrays are views of them that cannot be written.

    Raises WireError that says what is wrong, whatever the bytes are.
    """
    try:
        value = msgpack.unpackb(
            data,
            object_hook=_unmarked,
            ext_hook=_refused,
            strict_map_key=True,
            max_array_len=_MOST_ENTRIES,
            max_map_len=_MOST_ENTRIES,
        )
    except WireError:
        raise
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise WireError(f"the message is no msgpack of openpi's: {why}") from error
    _check(value, 0)
    return value


def _marked(value: object) -> Mapping[bytes, Any]:
    """An array or a number of numpy's as a map; TypeError for what is none."""
    if not isinstance(value, (np.ndarray, np.generic)):
        raise TypeError(f"{type(value).__name__} has no place in it")
    if value.dtype.kind not in "biufSU":
        raise TypeError(f"arrays of {value.dtype} have no place in it")
    if isinstance(value, np.ndarray):
        data, dtype = value.tobytes(), value.dtype.str
        return {b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": value.shape}
    return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}


def _unmarked(found: dict[Any, Any]) -> Any:
    """The array or number that a map stands for; other maps with keys of text."""
    named = {
        key.decode("utf-8", "replace") if isinstance(key, bytes) else key: each
        for key, each in found.items()
    }
    if named.get(_ARRAY) is True:
        return _array(named)
    if named.get(_NUMBER) is True:
        return _number(named)
    return named


def _array(marked: Mapping[str, Any]) -> np.ndarray:
    dtype, data, shape = _dtype(marked), marked.get("data"), marked.get("shape")
    if not isinstance(data, bytes) or not isinstance(shape, list) or len(shape) > _MOST_AXES:
        raise WireError("an array of the message lacks its data or its shape")
    if not all(type(dim) is int and dim >= 0 for dim in shape):
        raise WireError(f"an array of the message has shape {shape!r:.80}")
    if math.prod(shape) * dtype.itemsize != len(data) or not dtype.itemsize:
        raise WireError(
            f"an array of the message says {dtype.str} {shape}, and has {len(data)} bytes of data"
        )
    return np.frombuffer(data, dtype).reshape(shape)


def _number(marked: Mapping[str, Any]) -> np.generic:
    dtype, data = _dtype(marked), marked.get("data")
    kinds = {"U": str, "S": bytes}.get(dtype.kind, (int, float))
    if not isinstance(data, kinds):
        raise WireError(f"a number of the message says {dtype.str}, and has none")
    try:
        number: np.generic = dtype.type(data)
    except (ValueError, OverflowError, TypeError) as error:
        raise WireError(f"a number of the message does not fit {dtype.str}: {error}") from error
    return number


def _dtype(marked: Mapping[str, Any]) -> np.dtype[Any]:
    said = marked.get("dtype")
    said = said.decode("ascii", "replace") if isinstance(said, bytes) else said
    try:
        if not isinstance(said, str) or not _DTYPE.fullmatch(said):
            raise TypeError
        return np.dtype(said)
    except TypeError as error:
        raise WireError(f"an array of the message has dtype {said!r:.40}") from error


def _refused(code: int, data: bytes) -> Any:
    raise WireError(f"the message holds an extension of msgpack ({code}, {len(data)} bytes)")


def _check(value: Any, depth: int) -> None:
    if depth > _MOST_DEPTH:
        raise WireError(f"the message is more than {_MOST_DEPTH} deep")
    if isinstance(value, msgpack.Timestamp):  # an extension that msgpack makes without asking
        raise WireError("the message holds an extension of msgpack (a time)")
    if isinstance(value, dict):
        value = list(value.values())
    for each in value if isinstance(value, list) else ():
        _check(each, depth + 1)
