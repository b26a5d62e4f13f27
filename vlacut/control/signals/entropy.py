"""How unsure a policy is of its action, as it tells it itself."""

from __future__ import annotations

import numpy as np


def entropy_of(output: np.ndarray) -> float:
    """Entropy in nats. A tensor of one number is the entropy itself. Otherwise the last axis holds
    logits, and the entropy of its softmax is averaged over all rows. NaN if one is not finite.
    """
    if output.size == 1:
        return float(output.reshape(()))
    logits = output.reshape(-1, output.shape[-1]).astype(np.float64)
    logits = logits - logits.max(axis=1, keepdims=True)
    weights = np.exp(logits)
    total = weights.sum(axis=1)
    weighted = np.where(weights > 0, weights * np.where(weights > 0, logits, 0.0), 0.0)
    entropies = np.log(total) - weighted.sum(axis=1) / total
    return float(entropies.mean())
