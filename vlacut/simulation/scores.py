"""Recorded bandwidths as samples, and how well a predictor does on them, one step ahead."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vlacut.errors import InputError
from vlacut.hardware import Trace
from vlacut.runtime.network.predictors import Predictor

_WARM_UP = 10
_TOO_MUCH = 1.3


def samples_of(
    recordings: Mapping[str, Sequence[Trace]], interval_s: float
) -> tuple[dict[str, list[np.ndarray]], int]:
    """Bandwidths at the interval, by recording; and how many pieces were too coarse to have any.

    A piece with steps longer than the interval says nothing of it. Raises InputError if all are.
    """
    found: dict[str, list[np.ndarray]] = {}
    coarse = 0
    for name, traces in recordings.items():
        for trace in traces:
            if max(trace.seconds) > interval_s * 1.001:
                coarse += 1
            else:
                found.setdefault(name, []).append(np.array(trace.sampled(interval_s)))
    if not found:
        raise InputError(
            f"no trace has steps of {interval_s * 1e3:g} ms or less; ask for a longer --interval"
        )
    return found, coarse


def split_recordings(names: Sequence[str], share: float = 0.75) -> tuple[list[str], list[str]]:
    """So large a share of the recordings, and the others, by a digest of their names."""
    order = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    count = min(max(1, round(share * len(order))), len(order) - 1)
    return sorted(order[:count]), sorted(order[count:])


@dataclass(frozen=True)
class Score:
    """Of one predictor over all samples, one step ahead.

    Attributes:
        samples: how many were predicted.
        mae, rmse: mean absolute error and root of the mean squared error of the point forecast, in
            bytes per second.
        over: share of samples whose point forecast is more than 1.3 times what came.
        covered: share of samples that reach the 10 % quantile; 0.9, if that is one.
        quantile_over: as `over`, of the 10 % quantile.
    """

    samples: int
    mae: float
    rmse: float
    over: float
    covered: float
    quantile_over: float


def score(make: Callable[[], Predictor], pieces: Sequence[Sequence[float] | np.ndarray]) -> Score:
    """A new predictor on each piece of a recording; its first ten samples are not judged."""
    rows: list[tuple[float, float, float]] = []
    for piece in pieces:
        predictor = make()
        for index, came in enumerate(map(float, piece)):
            if index >= _WARM_UP:
                rows.append((came, predictor.predict(), predictor.predict(0.1)))
            predictor.update(came)
    actual, point, low = np.array(rows).reshape(-1, 3).T
    error = point - actual
    return Score(
        len(rows),
        float(abs(error).mean()),
        float((error**2).mean() ** 0.5),
        float((point > _TOO_MUCH * actual).mean()),
        float((actual >= low).mean()),
        float((low > _TOO_MUCH * actual).mean()),
    )
