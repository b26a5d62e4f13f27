"""What the age of an observation adds to the error of a command, as recorded."""

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
    """Errors [N, T]: of the command for tick n of the chunk of tick n - d, against that of tick n
    itself, in shares of ranges; NaN where there is no such chunk in the episode.

    Args:
        chunks: of every tick, [N, T, W].
        scale: ranges, [W].
        bounds: of the episodes.
        ticks: that a command of a chunk lasts: its period over the tick's.
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
    """How far the policy's own plan moves from one tick to the next, in shares of ranges: of every
    command of a chunk against the one for the same time in the next, each [N', T - 1].
    """
    rows = []
    for first, end in bounds:
        apart = np.abs(chunks[first : end - 1, 1:] - chunks[first + 1 : end, :-1]) / scale
        rows.append(apart.mean(axis=2))
    return np.concatenate(rows)


def ahead_of(
    errors: np.ndarray, late: int, lead: int, bounds: Iterable[tuple[int, int]]
) -> np.ndarray:
    """The worst error of playing on, [N]: of commands that are `late` ticks old, over this tick and
    the `lead` next ones of its episode; NaN where none is known.
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
