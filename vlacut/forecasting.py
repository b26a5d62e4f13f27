"""How well a predictor does on recorded bandwidths, one step ahead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vlacut.runtime.predictors import Predictor

_WARM_UP = 10
_TOO_MUCH = 1.3


@dataclass(frozen=True)
class Score:
    """Of one predictor over all samples, one step ahead.

    Attributes:
        samples: how many were predicted.
        mae, rmse: mean absolute error and root of the mean squared error of the point forecast, in
            bytes a second.
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
