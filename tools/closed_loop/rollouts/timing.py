"""What inferences take: a fixed time, or that of a full-size plan over a recorded network.

The full-size question is asked with the small policy's actions: OpenVLA's plan on Orin and A100
says when a chunk would be there, the small policy says what is in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from vlacut.control.inferring.inference import Inference, Outlook
from vlacut.control.inferring.latency import InferenceTimes
from vlacut.control.inferring.virtual import Course
from vlacut.control.report import Route, routes_of
from vlacut.hardware.trace import Trace
from vlacut.plans.plan import Plan
from vlacut.runtime.network.predictors import Predictor, make_predictor
from vlacut.runtime.network.selectors import Rates, make_selector
from vlacut.simulation import ByForecast, SimulatedLink, StepWalk, network_of, walks_of

_SAMPLED_S = 0.1
_ONE = (Route("fixed", "cloud", "float32"),)


class Timing(Protocol):
    """Of one episode.

    Attributes:
        routes: by variant.
        warming: how many inferences an action comes after its observation.
    """

    routes: Sequence[Route]
    warming: int

    def course(self, inference: Inference, now_ns: int) -> Course:
        """How an inference goes that is asked for at a time."""

    def outlook(self, now_ns: int) -> Outlook:
        """What the robot can know of the next one at a time."""

    def ended(self) -> None:
        """The inference that was asked for last is over."""

    def taken(self) -> list[tuple[Route, float]]:
        """Route and seconds of every inference that was asked for."""


class FixedTime:
    """Every inference takes as long.

    Args:
        seconds: that.
        routes: by variant.
    """

    def __init__(self, seconds: float, routes: Sequence[Route] = _ONE) -> None:
        self._seconds, self.routes, self.warming = seconds, routes, 0
        self._ran: list[int] = []

    def course(self, inference: Inference, now_ns: int) -> Course:
        """See `Timing`."""
        self._ran.append(inference.variant or 0)
        return Course(self._ran[-1], self._seconds)

    def outlook(self, now_ns: int) -> Outlook:
        """See `Timing`."""
        each = (self._seconds,) * len(self.routes)
        return Outlook(each, each)

    def ended(self) -> None:
        """Nothing to learn."""

    def taken(self) -> list[tuple[Route, float]]:
        """See `Timing`."""
        return [(self.routes[variant], self._seconds) for variant in self._ran]


class Network:
    """A plan's variants over a recorded network: shared by episodes.

    Args:
        plan: of the full-size model.
        trace: rates of the wire up.
    """

    def __init__(self, plan: Plan, trace: Trace) -> None:
        self.plan, self.routes = plan, routes_of(plan)
        self.walks: Sequence[StepWalk] = walks_of(plan)
        self.link: SimulatedLink = network_of(plan.link, trace)


class PlanTime:
    """An inference takes what the plan's schedule takes over the recording.

    Args:
        network: see there.
        begins_s: where in the recording the episode begins.
        selector: chooses where the controller does not: a name of `make_selector`.
        history: recordings for RoboECC's thresholds.
    """

    def __init__(
        self,
        network: Network,
        begins_s: float,
        selector: str = "argmin",
        history: Sequence[Sequence[float]] = (),
    ) -> None:
        self.routes: Sequence[Route] = network.routes
        self._network, self._begins_s = network, begins_s
        plan = network.plan
        self.warming = plan.warming
        chosen = make_selector(selector, plan, history=history, predictor=_ewma)
        self._knows = ByForecast(chosen, _ewma, network.link, plan.link, _SAMPLED_S)
        self._times, self._likely = InferenceTimes(plan), 0
        self._under_way: tuple[int, Rates, float] | None = None
        self._taken: list[tuple[Route, float]] = []

    def course(self, inference: Inference, now_ns: int) -> Course:
        """See `Timing`."""
        now = self._begins_s + now_ns * 1e-9
        variant = inference.variant
        if variant is None:
            variant = self._knows.decide(now)
        rates = self._knows.forecast(now).at()
        seconds = self._network.walks[variant].end(now, self._network.link) - now
        self._under_way = variant, rates, seconds
        self._taken.append((self.routes[variant], seconds))
        return Course(variant, seconds)

    def outlook(self, now_ns: int) -> Outlook:
        """See `Timing`."""
        forecast = self._knows.forecast(self._begins_s + now_ns * 1e-9)
        return Outlook(*self._times.at(forecast.at()), self._likely, forecast)

    def ended(self) -> None:
        """See `Timing`."""
        if self._under_way is not None:
            variant, rates, seconds = self._under_way
            self._times.learn(variant, rates, seconds)
            self._likely, self._under_way = variant, None

    def taken(self) -> list[tuple[Route, float]]:
        """See `Timing`."""
        return self._taken


def _ewma() -> Predictor:
    return make_predictor("ewma")
