"""The edge's side of a deployment: observations in, actions out.

A step has a deadline, or none. With one, it returns by then, whatever the cloud does:

1. the plan's variant, both sides together, for as long as the edge alone could still make it;
2. else the all-edge variant, if the bundle has one and what it takes fits what is left;
3. else the last action again, marked stale in the report;
4. else there has been no action yet: the all-edge variant's, late, if the bundle has one;
5. else DeadlineMissed.

A step whose connection fails starts again from its observation on the next connection, which is
made in the background; without a deadline, for `timeout` seconds. A refusal (another bundle, an
engine that failed) would come again: with a deadline the step falls back at once, without one it
raises. An engine of the edge is not interrupted; with `hedge` the step does not wait for it either.

State is what the action that was returned last left, whoever made it; a step that was given up
leaves none, and a stale repeat builds on nothing. How the sides agree on it: see `memory`, and
`StateRule` for what the report says of that.
"""

from __future__ import annotations

import logging
import math
import secrets
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Union

import numpy as np

from vlacut.backend import Engine
from vlacut.errors import InputError
from vlacut.hardware import Link, Side
from vlacut.plans.plan import Plan
from vlacut.plans.state import initial_state
from vlacut.runtime.closing import Closing
from vlacut.runtime.edge.entries import Entries
from vlacut.runtime.edge.fallbacks import Fallbacks, overrun_of
from vlacut.runtime.edge.flight import Flight
from vlacut.runtime.edge.link import CloudLink, Endpoint, Line, dial
from vlacut.runtime.edge.makers import Alone, Together
from vlacut.runtime.edge.memory import Moment, Remembered, copied
from vlacut.runtime.edge.observed import check_observation
from vlacut.runtime.edge.report import Made, Overrun, Source, StepReport
from vlacut.runtime.edge.request import StepRequest
from vlacut.runtime.engines import OpenedEngines, warm_up
from vlacut.runtime.network.estimate import NetworkEstimates, sampling_interval
from vlacut.runtime.network.predictors import PREDICTORS, Predictor
from vlacut.runtime.network.selectors import Always, Forecast, Rates, Selector, steady
from vlacut.runtime.wire.pictures import require_libraries
from vlacut.runtime.wire.protocol.greeting import TOKEN_BYTES
from vlacut.runtime.wire.security import require_authentication
from vlacut.tensor.noise import NoiseSource

_END_S = 1.0  # that `close` waits for an engine of a hedged step

_Noted = tuple[int, str, str, int, int, Made, Link, Rates, Union[Overrun, None], str]
_log = logging.getLogger("vlacut.edge")


class EdgeSession(Closing):
    """A robot's connection to its cloud.

    Args:
        plan: of the bundle.
        digest: of the bundle.
        engines: by name of part, all edge parts.
        address: host and port of the cloud; None if no variant that will run crosses. Of several
            servers any: see `vlacut.runtime.edge.entries`.
        others: servers to ask where that one cannot be reached, or does not take the robot.
        selector: which variant each step runs; the plan's first if not given.
        predictor: makes one for each direction of the network, see
            `vlacut.runtime.network.predictors`.
        interval_s: seconds between its samples; `sampling_interval` of the plan if not given.
        link: what the network is taken for until something crossed; the plan's if not given.
        timeout: seconds without progress after which the cloud counts as lost.
        deadline: seconds within which a step returns; None for no limit.
        hedge: let the edge make a step alone beside the cloud, once it must to meet the deadline.
        tls: of `vlacut.runtime.wire.security.edge_context`; None for a plain connection.
        insecure: allow an address off loopback without `tls`.
        checked: let checksums cover tensors, see `vlacut.runtime.wire.protocol`; if None, where
            nothing else guards them.
        initial: state in the first step of an episode, by key, where the plan says that it is not
            zeros.
        allow_nan: let a NaN in an observation pass.
        seed: of the noise that an observation lacks.

    Raises InputError if every variant crosses the link and no address is given, to hedge without a
    deadline or an all-edge variant, for a timeout or a deadline that is not above 0 s, for an
    address off loopback without `tls`, or where a codec's library is not installed; BackendError if
    an engine fails in a rehearsal; PeerRefused if the wrong one answers; PeerLost if nobody does,
    or PeerUnable if it is full, unless the edge can make steps alone meanwhile: with a deadline and
    an all-edge variant it goes on dialling in the background.
    """

    def __init__(
        self,
        plan: Plan,
        digest: bytes,
        engines: Mapping[str, Engine],
        address: tuple[str, int] | None,
        timeout: float = 10.0,
        *,
        others: Sequence[tuple[str, int]] = (),
        selector: Selector | None = None,
        predictor: Callable[[], Predictor] = PREDICTORS["ewma"],
        interval_s: float | None = None,
        link: Link | None = None,
        deadline: float | None = None,
        hedge: bool = False,
        tls: ssl.SSLContext | None = None,
        insecure: bool = False,
        checked: bool | None = None,
        initial: Mapping[str, np.ndarray] = MappingProxyType({}),
        allow_nan: bool = False,
        seed: int = 0,
    ) -> None:
        self._allow_nan = allow_nan
        if hedge and deadline is None:
            raise InputError("to hedge a step it needs a deadline: give one with --deadline")
        for name, given in (("timeout", timeout), ("deadline", deadline)):
            if given is not None and not 0 < given < math.inf:
                raise InputError(f"the {name} is {given:g} s; it must be a time of more than 0")
        self._plan = plan
        self._inputs = {spec.name: spec for spec in plan.inputs}
        self._noise = NoiseSource(plan.noise, self._inputs, seed)
        self._names = [variant.name for variant in plan.variants]
        self._selector = selector or Always(0)
        self._planned = steady(plan.link)  # what a selector gets that looks at no forecast
        network = NetworkEstimates(
            link or plan.link, predictor, interval_s or sampling_interval(plan)
        )
        self._step = 0
        self._deadline = deadline
        self._last: StepReport | None = None
        self._noted: _Noted | None = None  # for `last`
        self._made: Made | None = None
        self._source = Source.CHOSEN  # of the last action
        self._link: CloudLink | None = None
        self._opened: list[OpenedEngines] = []
        self._fallbacks: Fallbacks | None = None
        if address is None and all(plan.crosses):
            raise InputError(
                f"the plan of {plan.program} crosses the link; name the cloud's HOST:PORT"
            )
        if address is not None and any(plan.crosses):
            for host, _ in (address, *others):
                require_authentication(host, tls, insecure)
            require_libraries(plan)
        together = self._open(engines)
        first = initial_state(plan.states, plan.spec, initial)
        self._memory = Remembered(plan, first)
        self._moment: Moment | None = None
        self._flight = Flight(plan.warming)
        self.reset()
        alone: Alone | None = None
        if address is not None and any(plan.crosses):
            if hedge or (deadline is not None and not all(plan.crosses)):
                alone = Alone(plan, self._open(engines), self._memory)
            token = secrets.token_bytes(TOKEN_BYTES)
            endpoint = Endpoint(
                *(address, digest, token, deadline or 0.0, timeout, tls, insecure, checked)
            )

            def line(where: tuple[str, int], stay: bool) -> Line:
                return dial(replace(endpoint, address=where, stay=stay), plan, together.empty)

            try:
                entries = Entries([address, *others], line)
                self._link = CloudLink(entries.dial, alone is not None)
            except BaseException:
                self.close()
                raise
        self._together = Together(
            plan,
            together,
            self._link,
            network,
            self._selector.looks_ahead,
            timeout,
            self._memory,
        )
        if deadline is not None:
            self._fallbacks = Fallbacks(plan, self._together, alone, deadline, hedge)

    @property
    def steps(self) -> int:
        """How many steps were asked for."""
        return self._step

    def warm_up(self) -> None:
        """Run every engine of this side once on zeros, lest the first step wait for it.

        Raises BackendError where one fails.
        """
        mine = [part for part in self._plan.parts if part.side is Side.EDGE]
        for opened in self._opened:
            warm_up(mine, opened, self._plan)

    def reset(self) -> None:
        """Begin an episode: the next step builds on the initial state, and runs what runs on reset.

        A session begins with one.
        """
        self._moment = self._memory.begin() if self._plan.states else None
        self._flight.begin()

    def forget(self) -> None:
        """Forget the last action: a late step does not give it again."""
        self._made = None

    def step(
        self,
        observation: Mapping[str, np.ndarray],
        captured_ns: int | None = None,
        variant: int | None = None,
    ) -> dict[str, np.ndarray]:
        """One control step: the action, by name, in the shapes of the plan's outputs. See `last`
        for where it comes from.

        With several requests in flight (`Plan.warming`) it is that of an earlier observation, and
        empty as long as no request of the episode has its own.

        Args:
            observation: by name, in the shapes of the plan's inputs; noise that it lacks is drawn,
                see `vlacut.tensor.noise`.
            captured_ns: when it was captured, on `time.perf_counter_ns`; now, if not given.
            variant: index of the plan's; the selector's choice, if not given.

        Raises ObservationError before anything is sent; PeerLost, PeerRefused or WireError without
        a deadline, DeadlineMissed with one; BackendError if an engine of this side fails. The
        session goes on after any of these.
        """
        given = self._noise.complete(observation, self._step)
        checked = check_observation(
            self._inputs, given, self._plan.fixed, self._allow_nan, self._plan.premises
        )
        began = time.perf_counter_ns()
        until = math.inf if self._deadline is None else time.monotonic() + self._deadline
        captured = began if captured_ns is None else captured_ns
        selector, together = self._selector, self._together
        if variant is None:
            variant = selector.select(
                together.forecast() if selector.looks_ahead else self._planned
            )
        request = StepRequest(checked, captured, self._step, variant, self._moment)
        try:
            made, reason = self._make(request, until)
        finally:
            self._step += 1
        if self._moment is not None and made.source is not Source.STALE:
            self._commit(made)
            if self._plan.warming:
                made = self._flight.answered(made)
        if made.source is not self._source:
            self._note_change(made.source, request.step, reason)
        returned, name = time.perf_counter_ns(), self._names[variant]
        link, expected = self._plan.link, together.expected
        ran = [*together.ran(variant), *made.tally.ran]
        overrun = overrun_of(began, returned, self._deadline, ran)
        said = name, reason, began, returned, made, link, expected, overrun
        self._noted = (request.step, *said, self._plan.variants[variant].precision)
        self._last, self._made = None, made
        # Copies: the next step may repeat this action, whatever the caller does to it.
        return dict(zip(made.action, map(np.array, made.action.values()), strict=True))

    def _commit(self, made: Made) -> None:
        """The action is returned: the next step builds on what it left."""
        moment, most = made.moment, self._memory.observations
        assert moment is not None
        if most:
            moment.observation = copied(moment.observation)
        moment.forget_before(most)
        self._moment = moment

    def _make(self, request: StepRequest, until: float) -> tuple[Made, str]:
        """The action, and why it is not by the plan's variant."""
        if self._fallbacks is None:
            return self._together.make(request, until), ""
        return self._fallbacks.make(request, until, self._made)

    def _note_change(self, source: Source, step: int, reason: str) -> None:
        """Say where actions come from now: once, however many steps of an outage follow."""
        self._source = source
        if source is Source.CHOSEN:
            _log.info("from step %d on actions are by the plan's variant again", step)
        else:
            how = "by the edge alone" if source is Source.ALONE else "the last one again"
            _log.warning("from step %d on actions are %s: %s", step, how, reason)

    @property
    def plan(self) -> Plan:
        """What runs where."""
        return self._plan

    @property
    def deadline(self) -> float | None:
        """Seconds within which a step returns; None for no limit."""
        return self._deadline

    def forecast(self) -> Forecast:
        """What the network will be like in the next step."""
        return self._together.forecast()

    @property
    def last(self) -> StepReport:
        """Report of the last step; InputError before the first."""
        if self._noted is None:
            raise InputError("no step was run yet")
        if self._last is None:
            self._together.settle()
            self._last = StepReport(*self._noted)
        return self._last

    def close(self) -> None:
        """End the connection; calling it again does nothing."""
        if self._link is not None:
            self._link.close()
        if self._fallbacks is not None and not self._fallbacks.close(_END_S):
            _log.warning("closed while an engine runs; what it uses is kept until the process ends")
            return
        for opened in self._opened:
            opened.close()

    def _open(self, engines: Mapping[str, Engine]) -> OpenedEngines:
        self._opened.append(OpenedEngines(engines))
        return self._opened[-1]
