"""Inputs to measure with: as the time of an engine hangs on shapes, any legal numbers do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from vlacut.tensor import TensorSpec


def synthetic(spec: TensorSpec, seed: int = 0) -> np.ndarray:
    """Normal floats; zeros, which are always an index, for other types."""
    if spec.dtype not in ("float16", "float32", "float64"):
        return np.zeros(spec.numpy_shape, spec.numpy_dtype)
    numbers = np.random.default_rng(seed)
    return np.asarray(numbers.standard_normal(spec.numpy_shape)).astype(spec.numpy_dtype)


def varied(
    specs: Iterable[TensorSpec], observation: Mapping[str, np.ndarray], seed: int
) -> dict[str, np.ndarray]:
    """Another observation like one: floats are normal numbers of its mean and deviation, tensor by
    tensor; other types, and what is all alike or not finite, stay. Seed 0 is the observation.
    """
    made = dict(observation)
    for index, spec in enumerate(specs):
        array = observation[spec.name]
        if seed == 0 or spec.dtype not in ("float16", "float32", "float64"):
            continue
        mean, deviation = (float(one(array, dtype=np.float64)) for one in (np.mean, np.std))
        if deviation > 0 and np.isfinite(deviation):
            numbers = np.random.default_rng((seed, index)).normal(mean, deviation, array.shape)
            made[spec.name] = numbers.astype(array.dtype)
    return made
