"""How far two actions are apart."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def largest_difference(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> float:
    """Largest absolute difference over tensors of the same names.

    Where both have a NaN, or the same infinity, they are alike; NaN where only one has a NaN.
    """
    pairs = ((one[name].astype(np.float64), other[name].astype(np.float64)) for name in other)
    return float(np.max([_apart(left, right) for left, right in pairs]))


def _apart(left: np.ndarray, right: np.ndarray) -> float:
    alike = (left == right) | (np.isnan(left) & np.isnan(right))
    return float(np.max(np.abs(left[~alike] - right[~alike]), initial=0))


def magnitude(action: Mapping[str, np.ndarray], *, finite: bool = False) -> float:
    """Largest magnitude over all tensors of an action; NaN if there is one.

    With `finite`, of those numbers alone that are: masks hold infinities.
    """
    arrays = (np.abs(array.astype(np.float64)) for array in action.values())
    kept = (array[np.isfinite(array)] if finite else array for array in arrays)
    return float(np.max([np.max(array, initial=0) for array in kept]))


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
