"""The two ways a step can be made: both sides together, or the edge alone."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vlacut.backend import Engine
from vlacut.errors import DeadlineMissed, InputError, PeerLost, PeerRefused, WireError
from vlacut.plan import Plan
from vlacut.pricing import Side
from vlacut.runtime.interpreter import Walk
from vlacut.runtime.link import CloudLink, Line
from vlacut.runtime.report import Made, Source

_REMEMBERED = 16


@dataclass(frozen=True)
class Request:
    """A step to be made.

    Attributes:
        observation: checked.
        captured_ns: when it was captured.
        step: its number.
        variant: index of the plan's.
        until: when its action is due, on the clock of `time.monotonic`; infinity if never.
    """

    observation: Mapping[str, np.ndarray]
    captured_ns: int
    step: int
    variant: int
    until: float


class Together:
    """Makes a step by the plan's variant, and again if its connection fails.

    Args:
        link: None if no variant crosses the link.
        timeout: for how many seconds a step without a deadline is begun again.
    """

    def __init__(
        self, plan: Plan, engines: Mapping[str, Engine], link: CloudLink | None, timeout: float
    ) -> None:
        self._plan = plan
        self._engines = engines
        self._link = link
        self._timeout = timeout

    def make(self, request: Request) -> Made:
        """The action.

        Raises DeadlineMissed, PeerLost, PeerRefused, this side's BackendError, or InputError if the
        variant crosses a link that there is none of.
        """
        if not self._plan.crosses[request.variant]:
            return _walked(self._plan, self._engines, request, request.variant, Source.CHOSEN)
        if self._link is None:
            name = self._plan.variants[request.variant].name
            raise InputError(f"variant {name} crosses the link; name the cloud's HOST:PORT")
        give_up = min(request.until, time.monotonic() + self._timeout)
        while True:
            line = self._link.get(give_up)
            if line.connection.torn:
                self._link.drop(line, PeerLost("an earlier step left a frame unfinished"))
                continue
            try:
                return self._over(line, request)
            except PeerRefused as error:
                self._link.drop(line, error)
                raise
            except WireError as error:
                self._link.drop(line, error)
                if time.monotonic() >= give_up:
                    raise
            except DeadlineMissed as error:
                if line.connection.torn or line.connection.silent_s >= self._timeout:
                    self._link.drop(line, error)
                raise

    def _over(self, line: Line, request: Request) -> Made:
        line.connection.until = request.until
        walk = Walk(
            self._plan, Side.EDGE, self._engines, line.connection, request.step, request.variant
        )
        arrays = walk.run(request.observation, self._plan.outputs.values())
        for exchange in walk.tally.exchanges:
            line.clock.add(exchange)
        # Copies: what came over the connection is overwritten by the next step.
        action = {name: np.array(a) for name, a in zip(self._plan.outputs, arrays, strict=True)}
        clock = line.clock.offset_ns, line.clock.error_ns
        return Made(action, Source.CHOSEN, request.captured_ns, walk.tally, *clock)


class Alone:
    """Makes a step by the all-edge variant, and knows how long that takes.

    Raises InputError if the plan has none.
    """

    def __init__(self, plan: Plan, engines: Mapping[str, Engine]) -> None:
        if all(plan.crosses):
            raise InputError(f"the plan of {plan.program} has no all-edge variant to fall back on")
        self._plan = plan
        self._engines = engines
        self._variant = plan.crosses.index(False)
        self._took_s: deque[float] = deque(maxlen=_REMEMBERED)
        zeros = {spec.name: np.zeros(spec.numpy_shape, spec.numpy_dtype) for spec in plan.inputs}
        self.make(Request(zeros, 0, 0, self._variant, math.inf))

    @property
    def seconds(self) -> float:
        """The longest that one of the last runs took; the first was a rehearsal on zeros."""
        return max(self._took_s)

    def fits(self, seconds: float) -> bool:
        """Whether it can be made in so many seconds, by the last runs.

        If not, the longest of these is forgotten, lest one slow run rule it out for ever; the
        shortest never is.
        """
        if self.seconds <= seconds:
            return True
        if len(self._took_s) > 1:
            self._took_s.remove(self.seconds)
        return False

    def make(self, request: Request) -> Made:
        """The action. Raises BackendError."""
        start = time.monotonic()
        made = _walked(self._plan, self._engines, request, self._variant, Source.ALONE)
        self._took_s.append(time.monotonic() - start)
        return made


def _walked(
    plan: Plan, engines: Mapping[str, Engine], request: Request, variant: int, source: Source
) -> Made:
    walk = Walk(plan, Side.EDGE, engines, None, request.step, variant)
    arrays = walk.run(request.observation, plan.outputs.values())
    # Copies: what an engine's device wrote is overwritten by the next step.
    action = {name: np.array(a) for name, a in zip(plan.outputs, arrays, strict=True)}
    return Made(action, source, request.captured_ns, walk.tally)
