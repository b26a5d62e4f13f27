"""When inferences end: by the plan's own schedules, over a recorded bandwidth.

The loop knows of them what it would know on a robot: prices at a forecast of the network, corrected
by what inferences took.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vlacut.control.inferring.inference import Answer, Inference, Outlook
from vlacut.control.inferring.latency import InferenceTimes
from vlacut.control.inferring.virtual import Course, Delayed
from vlacut.plans.plan import Plan
from vlacut.runtime.network.selectors import Rates
from vlacut.simulation.forecasting import ByForecast
from vlacut.simulation.walk import SimulatedLink, StepWalk

TICK = "tick"  # the only tensor of a simulated observation


class Simulated:
    """A `Runner` in virtual time: an inference's action is the recorded chunk of its tick.

    Args:
        plan: of the bundle.
        walks: by variant.
        network: the link.
        knows: what the robot knows of that.
        output: name of the chunk.
        chunks: of every tick, [N, T, W].

    Attributes:
        ran: tick, variant and seconds of every inference that was begun.
    """

    def __init__(
        self,
        plan: Plan,
        walks: Sequence[StepWalk],
        network: SimulatedLink,
        knows: ByForecast,
        output: str,
        chunks: np.ndarray,
    ) -> None:
        self._walks, self._network, self._knows = walks, network, knows
        self._output, self._chunks = output, chunks
        self._times = InferenceTimes(plan)
        self._likely = 0
        self._before: int | None = None  # the variant that left the state
        self._rates = Rates(0.0, 0.0, 0.0)
        self._delayed = Delayed(self._make, self._course, self._look)
        self.ran: list[tuple[int, int, float]] = []

    def start(self, inference: Inference, now_ns: int) -> None:
        """See `Runner`."""
        self._delayed.start(inference, now_ns)

    def answer(self, now_ns: int) -> Answer | None:
        """See `Runner`."""
        answer = self._delayed.answer(now_ns)
        if answer is not None:
            self._likely = answer.variant
            self._times.learn(answer.variant, self._rates, answer.seconds)
        return answer

    def outlook(self, now_ns: int) -> Outlook:
        """See `Runner`."""
        return self._delayed.outlook(now_ns)

    def first(self, inference: Inference, now_ns: int) -> Answer:
        """The chunk that an episode begins with; it takes no time, and no controller asked."""
        action = self._make(inference, self._likely)
        self._before = self._likely
        self._times.reset(self._likely)
        return Answer(inference, action, captured_ns=now_ns, variant=self._likely)

    def _make(self, inference: Inference, variant: int) -> Mapping[str, np.ndarray]:
        return {self._output: self._chunks[int(inference.observation[TICK])]}

    def _course(self, inference: Inference, now_ns: int) -> Course:
        now = now_ns * 1e-9
        variant = inference.variant
        if variant is None:
            variant = self._knows.decide(now)
        self._rates = self._knows.forecast(now).at()
        seconds = self._walks[variant].end(now, self._network, before=self._before) - now
        self._before = variant
        self.ran.append((int(inference.observation[TICK]), variant, seconds))
        return Course(variant, seconds)

    def _look(self, now_ns: int) -> Outlook:
        forecast = self._knows.forecast(now_ns * 1e-9)
        return Outlook(*self._times.at(forecast.at()), self._likely, forecast)
