"""Point forecasters of one number ahead: what is known of a series without training.

Each takes a sample at a time and, after the first, has a `point`: its forecast of the next one, in
the sample's unit.
"""

from __future__ import annotations

from collections import deque

import numpy as np

LEAST = 1e3  # bytes per second: what an outage counts as, where a mean or a ratio needs more than 0


class Last:
    """The newest sample."""

    def __init__(self) -> None:
        self.point = 0.0

    def update(self, sample: float) -> None:
        """Take a sample."""
        self.point = sample


class Ewma:
    """Exponentially weighted mean.

    Args:
        share: of the newest sample.
    """

    def __init__(self, share: float = 0.6) -> None:
        self._share = share
        self._begun = False
        self.point = 0.0

    def update(self, sample: float) -> None:
        """Take a sample."""
        self.point += (self._share if self._begun else 1.0) * (sample - self.point)
        self._begun = True


class Harmonic:
    """Harmonic mean of the last samples: the mean of the time that a byte takes.

    The predictor of FESTIVE (Jiang, Sekar and Zhang 2012) and of many video players since.
    """

    def __init__(self, samples: int = 5) -> None:
        self._inverse = deque[float](maxlen=samples)
        self.point = 0.0

    def update(self, sample: float) -> None:
        """Take a sample."""
        self._inverse.append(1 / max(sample, LEAST))
        self.point = len(self._inverse) / sum(self._inverse)


class Holt:
    """Level and trend, both exponentially weighted (Holt 1957), the trend damped (Gardner 1985).

    Args:
        share: of the newest sample in the level.
        trend_share: of the newest change of the level in the trend.
        damping: of the trend, a step.
    """

    def __init__(
        self, share: float = 0.65, trend_share: float = 0.05, damping: float = 0.9
    ) -> None:
        self._share, self._trend_share, self._damping = share, trend_share, damping
        self._begun = False
        self._level = 0.0
        self._trend = 0.0

    def update(self, sample: float) -> None:
        """Take a sample."""
        before = self._level
        expected = before + self._damping * self._trend
        self._level = self._share * sample + (1 - self._share) * expected
        if self._begun:
            change = self._level - before - self._damping * self._trend
            self._trend = self._damping * self._trend + self._trend_share * change
        else:
            self._level, self._begun = sample, True

    @property
    def point(self) -> float:
        """The forecast."""
        return max(0.0, self._level + self._damping * self._trend)


class Autoregression:
    """A weighted sum of the last samples, the weights fitted by recursive least squares.

    Exponential forgetting as in Ljung and Söderström 1983, chapter 2: with regressors h, weights w
    and the inverse correlation P,

        gain = P h / (forget + h' P h),  w += gain (x - h' w),  P = (P - gain h' P) / forget

    Samples are divided by their running mean first, so that the fit knows no unit; it begins as an
    exponentially weighted mean.

    Args:
        order: how many samples.
        forget: weight of the sample before, against the newest one.
    """

    def __init__(self, order: int = 8, forget: float = 0.999, share: float = 0.6) -> None:
        self._forget = forget
        self._weights = share * (1 - share) ** np.arange(order)
        self._weights /= self._weights.sum()
        self._inverse = np.eye(order) * _TRUST
        self._recent = np.zeros(order)
        self._mean = Ewma(_MEAN_SHARE)
        self._begun = False

    def update(self, sample: float) -> None:
        """Take a sample."""
        if self._begun:
            self._fit(sample)
            self._recent[1:] = self._recent[:-1]
            self._recent[0] = sample
        else:
            self._recent[:] = sample
            self._begun = True
        self._mean.update(sample)

    def _fit(self, sample: float) -> None:
        mean = max(self._mean.point, LEAST)
        seen = self._recent / mean
        carried = self._inverse @ seen
        gain = carried / (self._forget + seen @ carried)
        # An error beyond the mean says more of the sample than of the weights (Huber 1964).
        error = min(max(sample / mean - float(seen @ self._weights), -1.0), 1.0)
        self._weights += gain * error
        self._inverse = (self._inverse - np.outer(gain, carried)) / self._forget
        if np.trace(self._inverse) > _MOST_TRACE:  # nothing new for long: keep what is known
            self._inverse *= _MOST_TRACE / np.trace(self._inverse)

    @property
    def point(self) -> float:
        """The forecast."""
        return max(0.0, float(self._recent @ self._weights))


_TRUST = 0.1  # in the first weights: their variance, against that of a sample's noise
_MEAN_SHARE = 0.05
_MOST_TRACE = 100.0
