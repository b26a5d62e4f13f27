"""TensorSpec: what is known of a tensor before it exists, and the check of one that does.

Element types go by their numpy names ("float32", "int64", "bool"); those numpy lacks keep their
ONNX name in lower case ("bfloat16", "float8e4m3fn", "int4"). At run time a type that numpy lacks
is carried as unsigned integers of the same width, so that the robot needs numpy alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vlacut.errors import ObservationError

_NAMES_BY_BITS = {
    128: ("complex128",),
    64: ("float64", "int64", "uint64", "complex64"),
    32: ("float32", "int32", "uint32"),
    16: ("float16", "bfloat16", "int16", "uint16"),
    8: (
        *("bool", "int8", "uint8", "float8e8m0"),
        *("float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz"),
    ),
    4: ("int4", "uint4", "float4e2m1"),
}
_BITS = {name: bits for bits, names in _NAMES_BY_BITS.items() for name in names}
_CARRIER = {"bfloat16": "uint16"} | {
    name: "uint8" for name in _BITS if name.startswith(("float8", "float4")) or _BITS[name] == 4
}


def dtype_bits(dtype: str) -> int:
    """Width of one element in bits; raises ValueError for a type that no tensor can have."""
    if dtype not in _BITS:
        raise ValueError(f"unknown element type {dtype!r}; known: {', '.join(sorted(_BITS))}")
    return _BITS[dtype]


@dataclass(frozen=True)
class TensorSpec:
    """Name, element type and static shape of a tensor.

    Raises ValueError for an unknown element type or a negative dimension.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        dtype_bits(self.dtype)
        if self.shape and min(self.shape) < 0:
            raise ValueError(f"{self.name}: negative dimension in {list(self.shape)}")

    @cached_property
    def nbytes(self) -> int:
        """Bytes of the packed tensor; 4-bit elements take half a byte, rounded up."""
        return (math.prod(self.shape) * dtype_bits(self.dtype) + 7) // 8

    @cached_property
    def numpy_dtype(self) -> np.dtype[np.generic]:
        """The numpy type that carries the elements at run time."""
        return np.dtype(_CARRIER.get(self.dtype, self.dtype))

    @cached_property
    def numpy_shape(self) -> tuple[int, ...]:
        """The numpy shape that carries the elements: flat bytes where elements share a byte."""
        return self.shape if dtype_bits(self.dtype) >= 8 else (self.nbytes,)

    def check(self, array: np.ndarray) -> np.ndarray:
        """The array, contiguous, if it is such a tensor; ObservationError if it is not."""
        if array.dtype != self.numpy_dtype:
            raise ObservationError(
                f"{self.name}: dtype is {array.dtype}, must be {self.numpy_dtype}; "
                f"convert it with .astype({str(self.numpy_dtype)!r})"
            )
        if array.shape != self.numpy_shape:
            raise ObservationError(
                f"{self.name}: shape is {list(array.shape)}, must be {list(self.numpy_shape)}"
            )
        if array.flags.c_contiguous:
            return array
        return np.require(array, requirements="C")  # unlike ascontiguousarray, keeps rank 0

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}{list(self.shape)}"
