"""Deciding by a forecast: a selector of the runtime, with samples of the emulated link.

The link is sampled as in the paper, in every interval, whether or not anything crosses: the sample
is the mean rate of the interval that has ended. So selectors are compared on what they make of the
same knowledge. A robot knows less, only what its own frames tell: see `vlacut twin`.
"""

from __future__ import annotations

from collections.abc import Callable

from vlacut.hardware import Link
from vlacut.runtime.network.predictors import Predictor
from vlacut.runtime.network.selectors import Forecast, Selector, steady
from vlacut.simulation.walk import SimulatedLink


class ByForecast:
    """A selector that is told what a predictor makes of the samples.

    Args:
        selector: the selector.
        predictor: makes the predictors, one for each direction.
        network: the link that is sampled.
        link: the forecast before the first sample; the framing of the samples.
        interval: seconds between samples.
    """

    busy = 0.0

    def __init__(
        self,
        selector: Selector,
        predictor: Callable[[], Predictor],
        network: SimulatedLink,
        link: Link,
        interval: float,
    ) -> None:
        self._selector = selector
        self._network = network
        self._link = link
        self._interval = interval
        self._up = predictor()
        self._ratio = link.down / link.up
        self._sampled = 0
        self._carried = 0.0
        self._newest = link.wire_up

    def decide(self, start: float) -> int:
        """See `vlacut.simulation.loop.Decider`."""
        return self._selector.select(self.forecast(start))

    def forecast(self, now: float) -> Forecast:
        """What the network will be like, by the samples that there are; times do not go back."""
        self._sample(now)
        if not self._sampled:
            return steady(self._link)
        return Forecast(self._up.predict, self._down, self._network.rtt_s, self._newest)

    def ended(self, variant: int, start: float, end: float) -> None:
        """Nothing to learn: the link is sampled."""

    def _sample(self, now: float) -> None:
        share = self._link.framing.share
        while (self._sampled + 1) * self._interval <= now:
            self._sampled += 1
            carried = self._network.up.carried(self._sampled * self._interval)
            self._newest = (carried - self._carried) / self._interval / share
            self._carried = carried
            self._up.update(max(self._newest, 0.0))  # a difference of sums may round below 0

    def _down(self, quantile: float | None) -> float:
        """The downlink keeps its ratio to the uplink, so one predictor does for both."""
        return self._ratio * self._up.predict(quantile)
