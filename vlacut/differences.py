"""How far two actions are apart."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def largest_difference(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> float:
    """Largest absolute difference over tensors of the same names; NaN if there is one."""
    pairs = ((one[name].astype(np.float64), other[name].astype(np.float64)) for name in other)
    return float(np.max([np.max(np.abs(left - right), initial=0) for left, right in pairs]))


def magnitude(action: Mapping[str, np.ndarray]) -> float:
    """Largest magnitude over all tensors of an action; NaN if there is one."""
    return largest_difference(action, {key: np.zeros_like(array) for key, array in action.items()})


def relative_difference(
    action: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]
) -> float:
    """The largest difference as a share of the reference's magnitude; infinite if one is NaN.

    Of a reference that is all zeros, 0 where the action is too, else infinite.
    """
    difference, scale = largest_difference(action, reference), magnitude(reference)
    if difference == 0:
        return 0.0
    ratio = difference / scale if scale else float("inf")
    return ratio if ratio == ratio else float("inf")
