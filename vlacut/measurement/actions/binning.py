"""Bins of risk, and the errors in them: their means, or conformal quantiles."""

from __future__ import annotations

import numpy as np

from vlacut.tensor.split_conformal import rank_of

BINS, LEAST = 8, 100  # LEAST ticks in a bin


def edges_of(risks: np.ndarray, bins: int = BINS, least: int = LEAST) -> np.ndarray:
    """The risks between bins. Each bin has half of the ticks that are riskier than the bins before;
    so the few risky ticks, on which decisions depend, are told apart. There are at most `bins`
    bins, of at least `least` ticks.
    """
    levels = [1 - 0.5**place for place in range(1, bins)]
    enough = [level for level in levels if (1 - level) * len(risks) >= least]
    made: np.ndarray = np.unique(np.quantile(risks, enough)) if enough else np.zeros(0)
    return made


def conformal_quantile(errors: np.ndarray, alpha: float) -> float:
    """A bound that the next error exceeds with a probability of at most alpha, if it is
    exchangeable with these. It is the ceil((m + 1)(1 - alpha))-th smallest of m errors, the largest
    if there are too few, and 0 for no errors.
    """
    known = np.sort(errors[np.isfinite(errors)])
    if not known.size:
        return 0.0
    rank = rank_of(known.size, 1 - alpha)
    return float(known[min(rank, known.size) - 1])


def typical(errors: np.ndarray, alpha: float) -> float:
    """The errors' conformal quantile; for an alpha of 0 their mean (0 for no errors)."""
    if alpha:
        return conformal_quantile(errors, alpha)
    known = errors[np.isfinite(errors)]
    return float(known.mean()) if known.size else 0.0


def by_bin(errors: np.ndarray, bins: np.ndarray, count: int, alpha: float) -> np.ndarray:
    """What is typical [count] of errors [N] by bins [N]; it does not fall with the bin."""
    made = np.array([typical(errors[bins == one], alpha) for one in range(count)])
    rising: np.ndarray = np.maximum.accumulate(made)
    return rising


def stale_table(errors: np.ndarray, bins: np.ndarray, count: int, alpha: float) -> np.ndarray:
    """The same of errors by age [N, D]: [D, count], not falling with the age either."""
    rows = [by_bin(errors[:, late], bins, count, alpha) for late in range(errors.shape[1])]
    known = np.isfinite(errors).any(axis=0)
    table: np.ndarray = np.maximum.accumulate(np.stack(rows), axis=0)
    return table[: max(2, int(np.flatnonzero(known).max(initial=0)) + 1)]
