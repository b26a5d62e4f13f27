"""Selectors: which variant the next step runs. The edge asks before each step; switching is free.

    NAME          the variant of that name, always
    random        any, from a seed
    argmin        the lowest predicted step time; another variant only if it gains enough
    quantile      the lowest probability of missing the deadline; without one, the lowest step time
                  that is kept with a probability of 90 %
    thresholds    RoboECC's: see `vlacut.runtime.network.thresholds`

`argmin`, `quantile` and `thresholds` go by time, and choose among the variants of the program as it
is; those of other precisions (`Plan.exact`) are for a controller that knows their errors.

Every step time is the plan's own price of the variant (`Price.over`) at the forecast bandwidths. If
a switch moves state (`Plan.move_s`), the step after it takes that much longer. `quantile` counts
that in the step. `argmin` switches once the savings it missed, step by step, add up to that time.
So it pays at most what it could have saved, like a skier who buys skis once the rent has reached
their price (Karlin et al., Competitive snoopy caching, 1988).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np

from vlacut.errors import InputError
from vlacut.hardware import Link
from vlacut.plans.plan import Plan
from vlacut.runtime.network.conformal import LEVELS
from vlacut.runtime.network.predictors import PREDICTORS, Predictor
from vlacut.runtime.network.smoothing import LEAST
from vlacut.runtime.network.thresholds import Change, changes_of, extremes, fit_thresholds

RANDOM, ARGMIN, QUANTILE, THRESHOLDS = "random", "argmin", "quantile", "thresholds"
SELECTORS = (RANDOM, ARGMIN, QUANTILE, THRESHOLDS)
_CAUTION = 0.1
_GAIN = 0.02
_LEARN_EVERY, _LEARNT = 32, 512  # steps

Rate = Callable[[float | None], float]  # `Predictor.predict`


class Rates(NamedTuple):
    """The rates that a network is assumed to have.

    Attributes:
        up, down: bytes per second of the wire.
        rtt_s: round-trip time of an empty message.
    """

    up: float
    down: float
    rtt_s: float

    def over(self, link: Link) -> Link:
        """The link, with these bandwidths and this round trip.

        An outage counts as `LEAST` bytes per second, because at 0 every price is infinite.
        """
        share = link.framing.share
        up, down = max(self.up, LEAST) * share, max(self.down, LEAST) * share
        return replace(link, up=up, down=down, rtt=self.rtt_s)


class Forecast(NamedTuple):
    """The network during the next step; to be asked before the step begins.

    Attributes:
        up, down: give bytes per second of the wire. For None, the point forecast; for a quantile q,
            the bandwidth that is reached with probability `1 - q`; see `Predictor.predict`.
        rtt_s: round-trip time of an empty message.
        up_now: the newest sample of the uplink, in bytes per second of the wire.
    """

    up: Rate
    down: Rate
    rtt_s: float
    up_now: float

    def at(self, quantile: float | None = None) -> Rates:
        """The point forecast, or that of a quantile, of both directions."""
        return Rates(self.up(quantile), self.down(quantile), self.rtt_s)

    def over(self, link: Link, quantile: float | None = None) -> Link:
        """The link, with the bandwidths and the round trip of the forecast: see `Rates.over`."""
        return self.at(quantile).over(link)


def steady(link: Link) -> Forecast:
    """The forecast that a link stays as it is."""
    return Forecast(lambda _: link.wire_up, lambda _: link.wire_down, link.rtt, link.wire_up)


class Selector(Protocol):
    """A selector in use; it may remember what it chose."""

    @property
    def looks_ahead(self) -> bool:
        """Whether its choice depends on the forecast; if not, no forecast is made."""

    def select(self, forecast: Forecast) -> int:
        """Index of the plan's variant for the next step."""


def make_selector(
    name: str,
    plan: Plan,
    *,
    deadline: float | None = None,
    history: Sequence[Sequence[float]] = (),
    predictor: Callable[[], Predictor] = PREDICTORS["ewma"],
    seed: int = 0,
) -> Selector:
    """The selector of a name; see the module's docstring.

    Args:
        name: one of `SELECTORS`, or the name of a variant.
        plan: the plan whose variants to choose from.
        deadline: seconds that a step may take, for `quantile`.
        history: recordings of the uplink to find RoboECC's thresholds on. Each is its samples in
            bytes per second of the wire. Without any, thresholds are found while steps run.
        predictor: makes the predictor in use, for the changes that it predicts on that history.
        seed: for `random`.

    Raises InputError naming the selectors and variants there are.
    """
    names = [variant.name for variant in plan.variants]
    if name in names:
        return Always(names.index(name))
    if name == RANDOM:
        return AtRandom(len(names), seed)
    if name == ARGMIN:
        return Argmin(plan.exact)
    if name == QUANTILE:
        return Quantile(plan.exact, deadline)
    if name == THRESHOLDS:
        return ByThresholds(plan.exact, history, predictor)
    raise InputError(
        f"there is no selector or variant {name!r}; the selectors are {', '.join(SELECTORS)}, the "
        f"plan's variants {', '.join(names)}"
    )


class Always:
    """The same variant in every step."""

    looks_ahead = False

    def __init__(self, index: int) -> None:
        self._index = index

    def select(self, forecast: Forecast) -> int:
        """Its index."""
        return self._index


class AtRandom:
    """Any variant in any step, from a seed."""

    looks_ahead = False

    def __init__(self, count: int, seed: int = 0) -> None:
        self._count = count
        self._numbers = random.Random(seed)

    def select(self, forecast: Forecast) -> int:
        """An index."""
        return self._numbers.randrange(self._count)


class Argmin:
    """The variant with the lowest predicted step time, the first of equals, if the switch pays.

    Args:
        plan: the plan whose variants to choose from.
        gain: the share of the current variant's step time that another must save to be taken.
        quantile: the quantile of the bandwidths at which step times are predicted; None for the
            point forecast.
    """

    looks_ahead = True

    def __init__(self, plan: Plan, gain: float = _GAIN, quantile: float | None = None) -> None:
        self._plan = plan
        self._gain = gain
        self._quantile = quantile
        self._used: int | None = None
        self._missed = [0.0] * len(plan.variants)  # seconds by which each was faster so far

    def select(self, forecast: Forecast) -> int:
        """Its index."""
        times = step_times(self._plan, forecast, self._quantile)
        every, used = range(len(times)), self._used
        if used is None:
            self._used = min(every, key=times.__getitem__)
            return self._used
        least, missed = (1 - self._gain) * times[used], self._missed
        link = forecast.over(self._plan.link, self._quantile) if self._plan.states else None
        faster = []
        for one in every:
            missed[one] = max(0.0, missed[one] + least - times[one])
            costs_s = self._plan.move_s(used, one, link) if link else 0.0
            if times[one] < least and missed[one] >= costs_s:
                faster.append(one)
        if faster:
            self._used = min(faster, key=times.__getitem__)
            self._missed = [0.0] * len(times)
            return self._used
        return used


class Quantile:
    """The variant that misses the deadline with the lowest probability; of equals, the fastest.

    The probability is the level of the bandwidths' quantiles at which the step takes as long as the
    deadline. Both directions have the same level, as if one were low whenever the other is. Without
    a deadline, this is the argmin at the bandwidths that are reached with a probability of 90 %.
    """

    looks_ahead = True

    def __init__(self, plan: Plan, deadline: float | None) -> None:
        self._plan = plan
        self._deadline = deadline
        self._used: int | None = None
        self._cautious = Argmin(plan, quantile=_CAUTION)

    def select(self, forecast: Forecast) -> int:
        """Its index."""
        if self._deadline is None:
            return self._cautious.select(forecast)
        links = [forecast.over(self._plan.link, float(level)) for level in LEVELS]
        expected = forecast.over(self._plan.link)
        ranks = []
        for index in range(len(self._plan.variants)):
            times = np.array([self._seconds(index, link) for link in links])
            missed = miss_probability(times, self._deadline)
            ranks.append((missed, self._seconds(index, expected)))
        self._used = min(range(len(ranks)), key=ranks.__getitem__)
        return self._used

    def _seconds(self, variant: int, link: Link) -> float:
        """Of the next step by a variant, with the state that it moves."""
        step_s = self._plan.variants[variant].price.over(link)
        used = self._used
        return step_s if used is None else step_s + self._plan.move_s(used, variant, link)


def miss_probability(times: np.ndarray, deadline: float) -> float:
    """The probability that a step misses the deadline.

    The step takes `times` seconds at the bandwidths' quantiles `LEVELS`; they do not increase. The
    result is linear between levels. Below the first level it is 0, above the last it is 1.
    """
    if times[0] <= deadline:
        return 0.0
    if times[-1] > deadline:
        return 1.0
    return float(np.interp(-deadline, -times, LEVELS))


class ByThresholds:
    """RoboECC's selector: see `vlacut.runtime.network.thresholds`.

    The plan's first variant is in use until a threshold is passed. Without a history nothing is
    passed at first, and thresholds are found anew as steps come.

    Args:
        plan: whose variants to choose from.
        history, predictor: see `make_selector`.
    """

    looks_ahead = True

    def __init__(
        self,
        plan: Plan,
        history: Sequence[Sequence[float]] = (),
        predictor: Callable[[], Predictor] = PREDICTORS["ewma"],
    ) -> None:
        self._plan = plan
        self._most, self._least = extremes(plan)
        self._used = 0
        self._learns = not history
        self._changes: deque[Change] = deque(maxlen=_LEARNT)
        self._steps = 0
        self._expected: float | None = None
        self.thresholds = fit_thresholds(plan, changes_of(history, predictor))

    def select(self, forecast: Forecast) -> int:
        """Its index."""
        change = forecast.up(None) - forecast.up_now
        if self._learns:
            self._learn(change, forecast.up_now)
        if change > self.thresholds.high:
            self._used = self._most
        elif change < self.thresholds.low:
            self._used = self._least
        return self._used

    def _learn(self, change: float, now: float) -> None:
        if self._expected is not None:
            self._changes.append(Change(self._expected, now))
        self._expected = change
        self._steps += 1
        if self._steps % _LEARN_EVERY == 0:
            self.thresholds = fit_thresholds(self._plan, tuple(self._changes))


def step_times(plan: Plan, forecast: Forecast, quantile: float | None = None) -> list[float]:
    """Predicted seconds of a step by each variant."""
    link = forecast.over(plan.link, quantile)
    return [variant.price.over(link) for variant in plan.variants]
