"""The two ways a step can be made: both sides together, or the edge alone."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

import numpy as np

from vlacut.backend import Engine
from vlacut.errors import DeadlineMissed, InputError, PeerLost, PeerRefused, WireError
from vlacut.hardware import Side
from vlacut.plans.plan import Plan
from vlacut.runtime.edge.link import CloudLink, Line
from vlacut.runtime.edge.memory import Moment, Remembered, find_path
from vlacut.runtime.edge.remembering import RememberingSteps
from vlacut.runtime.edge.report import Made, Source
from vlacut.runtime.edge.request import StepRequest
from vlacut.runtime.interpreter import Walk
from vlacut.runtime.network.estimate import NetworkEstimates
from vlacut.runtime.network.selectors import Forecast
from vlacut.runtime.tally import Tally
from vlacut.runtime.wire.clock import CloudClock
from vlacut.runtime.wire.frame import Heard
from vlacut.runtime.wire.protocol.header import PROBE, Header
from vlacut.runtime.wire.protocol.payloads import PROBE_BYTES
from vlacut.runtime.wire.route import Route, first_routes_of, routes_of

_REMEMBERED = 16
_PROBE = np.zeros(PROBE_BYTES, np.uint8)


class Together:
    """Makes a step by the plan's variant, and again if its connection fails.

    Args:
        plan: of the bundle.
        engines: by name of part, all parts of the edge.
        link: None if no variant crosses the link.
        network: learns from the steps.
        asked: whether a forecast is asked for before each step. If so, the network is probed where
            the steps do not tell of it; if not, a step forecasts while it waits for the cloud.
        timeout: for how many seconds a step without a deadline is begun again.
        memory: what steps build on.

    Attributes:
        expected: the last forecast.
    """

    def __init__(
        self,
        plan: Plan,
        engines: Mapping[str, Engine],
        link: CloudLink | None,
        network: NetworkEstimates,
        asked: bool,
        timeout: float,
        memory: Remembered,
    ) -> None:
        self._plan = plan
        self._walks = [Walk(route, engines) for route in routes_of(plan, Side.EDGE)]
        firsts = [Walk(route, engines) for route in first_routes_of(plan, Side.EDGE)]
        self._steps = RememberingSteps(plan, memory, self._walks, firsts)
        self._link = link
        self._network = network
        self._asked = asked
        self._timeout = timeout
        self._noted: tuple[list[Heard], Tally, CloudClock] | None = None
        self._settling = threading.Lock()
        self.expected = network.expected()

    def ran(self, variant: int) -> list[tuple[str, int, int]]:
        """What the edge's engines ran of a variant's last step: name of the part, start and end in
        nanoseconds on the clock of `time.perf_counter_ns`.
        """
        return self._walks[variant].tally.ran

    def settle(self) -> None:
        """Learn from the last step: while it was made nobody had time for that."""
        with self._settling:
            if self._noted is None:
                return
            (heard, tally, clock), self._noted = self._noted, None
            for ping in tally.pings:
                clock.add(ping)
            tally.clock_ns, tally.clock_error_ns = clock.offset_ns, clock.error_ns
            self._network.learn(heard, tally, clock)

    def forecast(self) -> Forecast:
        """What the network will be like in the next step."""
        self.settle()
        forecast = self._network.forecast()
        self.expected = forecast.at()
        return forecast

    def _expect(self) -> None:
        self.settle()
        self.expected = self._network.expected()

    def make(self, request: StepRequest, until: float) -> Made:
        """The action, by `until`, in seconds on the clock of `time.monotonic`.

        Raises DeadlineMissed, PeerLost, PeerRefused, this side's BackendError, or InputError if the
        variant crosses a link that there is none of.
        """
        if not self._plan.crosses[request.variant]:
            line = self._link.line if self._link else None
            if self._steps.can_stay(request, line, self._link is not None):
                if line:
                    if not self._asked:
                        self._expect()
                    self._probe(line, request)
                made = self._here(line, request, until)
                if line:
                    self._listen(line)
                return made
        if self._link is None:
            name = self._plan.variants[request.variant].name
            raise InputError(f"variant {name} crosses the link; name the cloud's HOST:PORT")
        give_up = min(until, time.monotonic() + self._timeout)
        retries = 0
        while True:
            line = self._link.line or self._link.get(give_up)
            if line.connection.outbox.nbytes:
                self._link.drop(line, PeerLost("an earlier step left a frame unfinished"))
                continue
            try:
                made = self._over(line, request, until)
                made.retries = retries
                return made
            except PeerRefused as error:
                self._link.drop(line, error)
                raise
            except WireError as error:
                self._link.drop(line, error)
                if time.monotonic() >= give_up:
                    raise
                retries += 1
            except DeadlineMissed as error:
                if line.connection.torn or line.connection.silent_s >= self._timeout:
                    self._link.drop(line, error)
                raise

    def _here(self, line: Line | None, request: StepRequest, until: float) -> Made:
        """By a variant that does not cross, on what the edge holds."""
        if self._plan.states:
            if line:
                line.connection.until = until  # what is owed of the state may still have to come
            return self._steps.make(request, line, Source.CHOSEN, None)
        return _walked(self._plan, self._walks[request.variant], request, Source.CHOSEN)

    def _over(self, line: Line, request: StepRequest, until: float) -> Made:
        connection, walk = line.connection, self._walks[request.variant]
        connection.until = until
        meanwhile = None if self._asked else self._expect
        wanted = self._plan.outputs.values()
        try:
            if self._plan.states:
                made = self._steps.make(request, line, Source.CHOSEN, meanwhile)
            else:
                arrays = walk.run(request.observation, wanted, request.step, connection, meanwhile)
                action = dict(zip(self._plan.outputs, arrays, strict=True))
                made = Made(action, Source.CHOSEN, request.captured_ns, walk.tally)
        except DeadlineMissed:
            self._network.missed(self._steps.tally if self._plan.states else walk.tally)
            raise
        if self._noted is not None:  # nobody waited for the cloud in this step
            self.settle()
        self._noted = connection.take_heard(), made.tally, line.clock
        if self._asked:
            self.settle()
            self._probe(line, request)
        return made

    def _probe(self, line: Line, request: StepRequest) -> None:
        """Send a probe if one is due, unless the connection still has something to deliver."""
        connection = line.connection
        if not self._asked or connection.torn or connection.silent_s or not self._network.probe():
            return
        try:
            connection.until = math.inf
            step = self._steps.number if self._plan.states else request.step
            base = step if self._plan.states else 0  # it gives no step up
            connection.send(Header(PROBE, 0, 0, 0, step, PROBE_BYTES, base), [_PROBE])
        except WireError as error:
            self._drop(line, error)

    def _listen(self, line: Line) -> None:
        """Hear what has come without waiting: the answer to a probe."""
        try:
            line.connection.listen()
        except WireError as error:
            self._drop(line, error)
        self._network.learn(line.connection.take_heard(), None, line.clock)

    def _drop(self, line: Line, error: WireError) -> None:
        assert self._link is not None
        self._link.drop(line, error)


class Alone:
    """Makes a step by the all-edge variant, and knows how long that takes.

    Args:
        plan: of the bundle.
        engines: by name of part, all parts of the edge; nobody else uses them.
        memory: what steps build on.

    Raises InputError if the plan has no such variant; BackendError if an engine fails in the
    rehearsal.
    """

    def __init__(self, plan: Plan, engines: Mapping[str, Engine], memory: Remembered) -> None:
        if all(plan.crosses):
            raise InputError(f"the plan of {plan.program} has no all-edge variant to fall back on")
        self._plan = plan
        self._variant = index = plan.crosses.index(False)
        self._walk = Walk(Route(plan, Side.EDGE, index), engines)
        first = Walk(Route(plan, Side.EDGE, index, first=bool(plan.states)), engines)
        count = len(plan.variants)
        self._steps = RememberingSteps(plan, memory, [self._walk] * count, [first] * count)
        self._took_s: deque[float] = deque(maxlen=_REMEMBERED)
        zeros = {spec.name: np.zeros(spec.numpy_shape, spec.numpy_dtype) for spec in plan.inputs}
        self.make(StepRequest(zeros, 0, 0, index, memory.begin() if plan.states else None))

    @property
    def seconds(self) -> float:
        """The seconds that the longest of the last 16 runs took; the first was a rehearsal on
        zeros.
        """
        return max(self._took_s)

    def runs(self, moment: Moment | None) -> int:
        """How many it takes to make a step on a state, runs of earlier steps included; 0 if the
        edge cannot have that state.
        """
        if moment is None:
            return 1
        path = find_path(self._plan, self._variant, moment, None, {})
        return 0 if path is None else 1 + len(path.again)

    def fits(self, seconds: float) -> bool:
        """Whether it can be made in so many seconds, by the last runs.

        If not, the longest of these is forgotten, lest one slow run rule it out for ever; the
        shortest never is.
        """
        longest = self.seconds
        if longest <= seconds:
            return True
        if len(self._took_s) > 1:
            with suppress(ValueError):  # a hedged run that ended just now has pushed it out
                self._took_s.remove(longest)
        return False

    def make(self, request: StepRequest) -> Made:
        """The action. Raises BackendError if an engine fails."""
        start = time.monotonic()
        if self._plan.states:
            mine = replace(request, variant=self._variant)
            made = self._steps.make(mine, None, Source.ALONE, None)
        else:
            made = _walked(self._plan, self._walk, request, Source.ALONE)
        self._took_s.append((time.monotonic() - start) / (1 + made.again))
        return made


def _walked(plan: Plan, walk: Walk, request: StepRequest, source: Source) -> Made:
    arrays = walk.run(request.observation, plan.outputs.values(), request.step)
    action = dict(zip(plan.outputs, arrays, strict=True))
    return Made(action, source, request.captured_ns, walk.tally)
