"""Inputs to measure with: as the time of an engine hangs on shapes, any legal numbers do."""

from __future__ import annotations

import numpy as np

from vlacut.tensor import TensorSpec


def synthetic(spec: TensorSpec, seed: int = 0) -> np.ndarray:
    """Normal floats; zeros, which are always an index, for other types."""
    if spec.dtype not in ("float16", "float32", "float64"):
        return np.zeros(spec.numpy_shape, spec.numpy_dtype)
    numbers = np.random.default_rng(seed)
    return np.asarray(numbers.standard_normal(spec.numpy_shape)).astype(spec.numpy_dtype)
