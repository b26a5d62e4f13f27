"""Weights of an LSTM that nobody trained."""

from __future__ import annotations

import numpy as np

from vlacut.runtime.network.conformal import LEVELS
from vlacut.runtime.network.lstm import LstmWeights


def untrained(seed: int) -> LstmWeights:
    numbers = np.random.default_rng(seed)

    def some(*shape: int) -> np.ndarray:
        return numbers.normal(0, 0.5, shape).astype(np.float32)

    output, bias = some(1 + LEVELS.size, 8), some(1 + LEVELS.size)
    output[1:], bias[1:] = output[1], np.sort(bias[1:])  # wrong quantiles that do not cross
    return LstmWeights(0.1, some(32, 2), some(32, 8), some(32), output, bias, 0.0 * LEVELS)
