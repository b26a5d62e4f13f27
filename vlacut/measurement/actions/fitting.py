"""The learnt risk: logistic regression, and how well a score tells critical ticks."""

from __future__ import annotations

import math

import numpy as np

from vlacut.control.signals.risk import RiskModel

_PENALTY = 1.0
_ROUNDS = 50
_ENOUGH = 1e-8
RECALL = 0.95


def fit_logistic(features: np.ndarray, critical: np.ndarray) -> RiskModel:
    """A logistic model of features [N, F], by Newton's method (iteratively reweighted least
    squares) with a quadratic penalty on weights; its threshold is 0.5 until it is set.
    """
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    seen = np.column_stack(((features - mean) / scale, np.ones(len(features))))
    penalty = np.full(seen.shape[1], _PENALTY)
    penalty[-1] = 1e-6
    weights = np.zeros(seen.shape[1])
    for _ in range(_ROUNDS):
        risk = 1 / (1 + np.exp(-np.clip(seen @ weights, -30, 30)))
        curvature = (seen * (risk * (1 - risk))[:, None]).T @ seen + np.diag(penalty)
        step = np.linalg.solve(curvature, seen.T @ (critical - risk) - penalty * weights)
        weights += step
        if np.abs(step).max() < _ENOUGH:
            break
    return RiskModel(weights[:-1], mean, scale, float(weights[-1]), 0.5)


def auc(scores: np.ndarray, critical: np.ndarray) -> float:
    """Area under the receiver's curve: how probably a critical tick scores above another, ties
    counting half (Mann and Whitney). NaN if there are only such, or none.
    """
    high, low = scores[critical], np.sort(scores[~critical])
    if not high.size or not low.size:
        return math.nan
    below = np.searchsorted(low, high, "left") + np.searchsorted(low, high, "right")
    return float(below.mean() / (2 * low.size))


def threshold_of(
    scores: np.ndarray, critical: np.ndarray, recall: float = RECALL
) -> tuple[float, float]:
    """The score that so many critical runs reach, and the precision of the ticks above it.

    The floor((m + 1) (1 - recall))-th smallest of the largest scores of m runs of critical ticks,
    the smallest where that is none: a new run, exchangeable with these, is below the k-th smallest
    with a probability of k / (m + 1). A threshold nothing passes, and NaN, without a run.
    """
    edges = np.flatnonzero(np.diff(np.concatenate(([0], critical.astype(int), [0]))))
    maxima = sorted(float(scores[a:b].max()) for a, b in edges.reshape(-1, 2).tolist())
    if not maxima:
        return math.inf, math.nan
    threshold = maxima[max(1, math.floor((len(maxima) + 1) * (1 - recall))) - 1]
    above = scores >= threshold
    return threshold, float(critical[above].mean())
