"""Weights of parts: each file of the store is mapped once for all its readers, and never copied.

A tensor on the CPU is the file's own pages. A device holds it once, as long as a part uses it.
"""

from __future__ import annotations

import math
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
import onnx
import torch

from vlacut.errors import BackendError
from vlacut_backends.aten.part import Stored

_T = onnx.TensorProto
DTYPES = {
    int(_T.FLOAT): torch.float32,
    int(_T.FLOAT16): torch.float16,
    int(_T.BFLOAT16): torch.bfloat16,
    int(_T.DOUBLE): torch.float64,
    int(_T.INT8): torch.int8,
    int(_T.UINT8): torch.uint8,
    int(_T.INT16): torch.int16,
    int(_T.INT32): torch.int32,
    int(_T.INT64): torch.int64,
    int(_T.BOOL): torch.bool,
    int(_T.FLOAT8E4M3FN): torch.float8_e4m3fn,
}


class Weights:
    """Those that the parts of one executor have in common."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._held: WeakValueDictionary[tuple[object, ...], torch.Tensor]
        self._held = WeakValueDictionary()

    def tensor(self, stored: Stored, root: Path, where: str) -> torch.Tensor:
        """A weight; `root` is the folder that its file is relative to.

        Raises BackendError, beginning with `where`, for a type that PyTorch has none of, or a file
        that is missing or too short.
        """
        dtype = dtype_of(stored.dtype, where)
        if not stored.file:
            array = np.frombuffer(bytearray(stored.data), np.uint8)
            return _typed(array, dtype, stored.shape).to(self.device)
        path = root / stored.file
        key = (path, stored.offset, stored.dtype, stored.shape)
        found = self._held.get(key)
        if found is None:
            nbytes = math.prod(stored.shape) * dtype.itemsize
            try:
                # Copy on write: nothing writes, but PyTorch knows no memory that cannot be written.
                array = np.memmap(path, np.uint8, "c", stored.offset, (nbytes,))
            except (OSError, ValueError) as error:
                raise BackendError(f"{where}: {path} cannot be mapped: {error}") from error
            found = _typed(array, dtype, stored.shape).to(self.device)
            self._held[key] = found
        return found


def dtype_of(kind: int, where: str) -> torch.dtype:
    """PyTorch's type of a number of `onnx.TensorProto.DataType`; BackendError, beginning with
    `where`, if it has none.
    """
    if kind not in DTYPES:
        name = onnx.TensorProto.DataType.Name(kind)
        raise BackendError(f"{where} is of {name}, unknown to PyTorch here")
    return DTYPES[kind]


def _typed(array: np.ndarray, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    if not array.size:
        return torch.empty(shape, dtype=dtype)
    return torch.from_numpy(np.asarray(array)).view(dtype).reshape(shape)


_CARRIERS = {torch.bfloat16: (torch.int16, "uint16"), torch.float8_e4m3fn: (torch.uint8, "uint8")}


def to_tensor(array: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """An array as `vlacut.tensor` carries it, as a tensor of the same memory."""
    if not array.flags.writeable:  # nothing writes, but PyTorch knows no such memory
        array = np.array(array)
    if dtype is torch.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(dtype)
    made = torch.from_numpy(array)
    return made.view(dtype) if dtype in _CARRIERS else made


def to_array(tensor: torch.Tensor) -> np.ndarray:
    """A tensor on the CPU, as `vlacut.tensor` carries it; the same memory if it lies in order."""
    whole = tensor.contiguous()
    if whole.dtype in _CARRIERS:
        plain, carrier = _CARRIERS[whole.dtype]
        made: np.ndarray = whole.view(plain).numpy().view(carrier)
        return made
    made = whole.numpy()
    return made
