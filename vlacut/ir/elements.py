"""Tensors as the runtime carries them (see `vlacut.tensor`), and the numbers that they hold."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from vlacut.tensor import TensorSpec


def elements(dtype: str) -> np.dtype[np.generic]:
    """The numpy type of these elements; the one of ml_dtypes if numpy lacks it."""
    return np.dtype({"bfloat16": ir.DataType.BFLOAT16.numpy()}.get(dtype, dtype))


def numbers(array: np.ndarray, dtype: str) -> np.ndarray:
    """The numbers that a tensor as carried at run time stands for."""
    return array.view(elements(dtype))


def carried(array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """The numbers as the runtime carries a tensor of this type."""
    if array.dtype == spec.numpy_dtype:
        return np.require(array, requirements="C")
    return np.require(array.astype(elements(spec.dtype)).view(spec.numpy_dtype), requirements="C")
