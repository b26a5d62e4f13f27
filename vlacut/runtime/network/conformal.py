"""Quantiles that keep their word: online conformal correction of any forecast.

For every level q, a forecast promises a bandwidth that the next sample falls below with probability
q. After each sample, the quantile tracker of Angelopoulos, Candès and Tibshirani, "Conformal PID
Control for Time Series Prediction" (2023), section 2, moves the promise of every level: down after
a sample below it, up after another,

    c += rate * (q - [sample < promise])

The unit is the forecast's own scale, or its errors if these are larger, on logarithms of the
bandwidth. Over T samples, the share of samples below the promise is q within
(width + rate) / (rate T), whatever the series does (their proposition 1). No distribution is
assumed, and none has to last.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from vlacut.errors import InputError
from vlacut.runtime.network.smoothing import LEAST

LEVELS = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99])
_MEDIAN = int(np.argmin(abs(LEVELS - 0.5)))
_RATE = 0.05
_SPREAD_SHARE = 0.05
_FIRST_SPREAD = 0.3
_LEAST_SPREAD = 1e-3


class Outlook(Protocol):
    """A forecast to correct. Bytes per second, and their natural logarithms.

    Attributes:
        first: where the corrections of `LEVELS` begin, in units of `scale`.
    """

    first: np.ndarray

    def update(self, sample: float) -> None:
        """Take a sample, at least `LEAST`."""

    @property
    def point(self) -> float:
        """The point forecast."""

    @property
    def centre(self) -> np.ndarray:
        """Logarithms of the quantiles at `LEVELS`, uncorrected; one for all where it has none."""

    @property
    def scale(self) -> float:
        """How wide the forecast is, as a logarithm of a ratio; above 0."""


class Forecaster(Protocol):
    """A forecast without quantiles: see `vlacut.runtime.network.smoothing`."""

    def update(self, sample: float) -> None:
        """Take a sample."""

    @property
    def point(self) -> float:
        """The forecast."""


class AroundPoint:
    """The outlook of a point forecaster: as wide as its latest errors.

    The scale is the mean absolute error of the logarithm (a locally weighted score, Lei et al.
    2018, section 5.2); corrections begin at the quantiles of a Laplace distribution of that mean
    absolute deviation.
    """

    first = np.sign(LEVELS - 0.5) * -np.log(2 * np.minimum(LEVELS, 1 - LEVELS))

    def __init__(self, forecaster: Forecaster) -> None:
        self._forecaster = forecaster
        self._centre: float | None = None
        self._spread = _FIRST_SPREAD

    def update(self, sample: float) -> None:
        """Take a sample."""
        if self._centre is not None:
            error = abs(math.log(sample) - self._centre)
            self._spread += _SPREAD_SHARE * (error - self._spread)
        self._forecaster.update(sample)
        self._centre = math.log(max(self._forecaster.point, LEAST))

    @property
    def point(self) -> float:
        """The point forecast."""
        return self._forecaster.point

    @property
    def centre(self) -> np.ndarray:
        """Its logarithm."""
        return np.array(self._centre)

    @property
    def scale(self) -> float:
        """Mean absolute error of the logarithm, of late."""
        return max(self._spread, _LEAST_SPREAD)


class Conformal:
    """A predictor (see `vlacut.runtime.network.predictors.Predictor`) made of an outlook.

    `update` and `predict` raise InputError as every predictor does.
    """

    def __init__(self, outlook: Outlook) -> None:
        self._outlook = outlook
        self._shift = np.array(outlook.first)
        self._promised: np.ndarray | None = None
        self._off = 1.0  # half of the samples are farther from the median, in units of the scale

    def update(self, bytes_per_s: float) -> None:
        """Take a sample: correct what was promised for it, and promise anew."""
        if not (bytes_per_s >= 0 and math.isfinite(bytes_per_s)):
            raise InputError(f"a bandwidth of {bytes_per_s} bytes/s: must be 0 or more, and finite")
        sample = max(bytes_per_s, LEAST)
        if self._promised is not None:
            # What is promised below LEAST is promised as 0, and nothing is below that.
            log = math.log(sample)
            below = (log < self._promised) & (self._promised > math.log(LEAST))
            off = abs(log - self._promised[_MEDIAN]) / self._outlook.scale
            self._off *= 1 + _SPREAD_SHARE if off > self._off else 1 / (1 + _SPREAD_SHARE)
            self._shift += _RATE * max(1.0, self._off) * (LEVELS - below)
        self._outlook.update(sample)
        promised = self._outlook.centre + self._outlook.scale * self._shift
        self._promised = np.maximum.accumulate(promised)

    def predict(self, quantile: float | None = None) -> float:
        """The next sample: the point forecast, or a quantile of it."""
        if self._promised is None:
            raise InputError("a predictor without a sample predicts nothing; update it first")
        if quantile is None:
            return self._outlook.point
        if not 0 <= quantile <= 1:
            raise InputError(f"quantile {quantile:g} must be within 0 and 1")
        value = math.exp(float(np.interp(quantile, LEVELS, self._promised)))
        return value if value > LEAST else 0.0
