"""The error that the age of an observation adds to a command, from recordings."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

_RANGE = (0.01, 0.99)
_LEAST_SHARE = 1e-3  # of the largest range: a column that hardly moves is in those units


def ranges(chunks: np.ndarray) -> np.ndarray:
    """Ranges [W] of the columns of chunks [N, T, W]: between their 1 % and 99 % quantiles."""
    low, high = np.quantile(chunks.reshape(-1, chunks.shape[2]), _RANGE, axis=0)
    spans = np.maximum(high - low, np.ptp(chunks.reshape(-1, chunks.shape[2]), axis=0) / 10)
    made: np.ndarray = np.maximum(spans, max(float(spans.max()) * _LEAST_SHARE, 1e-12))
    return made


def staleness(
    chunks: np.ndarray, scale: np.ndarray, bounds: Iterable[tuple[int, int]], ticks: float
) -> np.ndarray:
    """Errors [N, T] in shares of ranges. Error [n, d] compares two commands for tick n: the one in
    the chunk of tick n - d, and the one in the chunk of tick n. It is NaN if the episode has no
    such chunk.

    Args:
        chunks: the chunk of every tick, [N, T, W].
        scale: ranges, [W].
        bounds: first ticks of the episodes, and the end.
        ticks: how many ticks a command of a chunk lasts: its period over the tick's.
    """
    count, length, _ = chunks.shape
    errors = np.full((count, length), np.nan)
    for first, end in bounds:
        for late in range(min(length, end - first)):
            index = round(late / ticks)
            now = np.arange(first + late, end)
            apart = np.abs(chunks[now - late, index] - chunks[now, 0]) / scale
            errors[now, late] = apart.mean(axis=1)
    return errors


def variation(
    chunks: np.ndarray, scale: np.ndarray, bounds: Iterable[tuple[int, int]]
) -> np.ndarray:
    """How far the policy's own plan moves from one tick to the next, in shares of ranges,
    [N', T - 1]. Every command of a chunk is compared with the next chunk's for the same time.
    """
    rows = []
    for first, end in bounds:
        apart = np.abs(chunks[first : end - 1, 1:] - chunks[first + 1 : end, :-1]) / scale
        rows.append(apart.mean(axis=2))
    return np.concatenate(rows)


def ahead_of(
    errors: np.ndarray, late: int, lead: int, bounds: Iterable[tuple[int, int]]
) -> np.ndarray:
    """The worst error of playing on, [N]. It is the largest error of commands that are `late` ticks
    old, over this tick and the `lead` next ones of its episode; NaN if none is known.
    """
    column = errors[:, min(late, errors.shape[1] - 1)]
    made = np.full(len(column), np.nan)
    for first, end in bounds:
        for tick in range(first, end):
            window = column[tick : min(end, tick + lead + 1)]
            known = window[np.isfinite(window)]
            if known.size:
                made[tick] = known.max()
    return made
