"""The simulated control loop: step after step over a trace, each by the variant decided on.

Steps run back to back, or start at the ticks of a period; after a late step, the next one takes the
next tick. Between steps the link is idle. A step that starts within the trace runs to its end; at
its end the trace starts again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vlacut.errors import InputError
from vlacut.hardware import Link
from vlacut.hardware.service import Service
from vlacut.hardware.trace import Trace
from vlacut.plans.plan import Plan
from vlacut.simulation.walk import SimulatedLink, StepWalk


class Decider(Protocol):
    """Decides before every step.

    Attributes:
        busy: until when the uplink carries what the decider itself has sent.
    """

    busy: float

    def decide(self, start: float) -> int:
        """Index of the variant of the step that starts now."""

    def ended(self, variant: int, start: float, end: float) -> None:
        """Learn that the step is over; nothing has crossed since."""


@dataclass(frozen=True)
class Outcome:
    """The steps of a run. Seconds on the trace's clock.

    Attributes:
        starts: when every step started.
        latencies: from each start to its action.
        variants: index of the plan's variant, by step.
    """

    starts: np.ndarray
    latencies: np.ndarray
    variants: np.ndarray

    @property
    def switches(self) -> int:
        """Steps by another variant than the step before."""
        return int(np.count_nonzero(np.diff(self.variants)))


def network_of(link: Link, trace: Trace | None = None) -> SimulatedLink:
    """The link, its uplink's rate that of a trace; the downlink's keeps its ratio to it.

    Args:
        link: its rates, round trip and cost of a message.
        trace: rates of the wire up; the link's own, if not given.

    Raises HardwareError if the trace carries nothing.
    """
    rates = Trace((link.wire_up,), (1.0,)) if trace is None else trace
    up = Service(rates, link.framing.share)
    down = Service(rates, link.framing.share * link.down / link.up)
    return SimulatedLink(up, down, link.hop_s, link.rtt)


def run_loop(
    walks: Sequence[StepWalk],
    network: SimulatedLink,
    decider: Decider,
    *,
    start: float = 0.0,
    seconds: float | None = None,
    steps: int | None = None,
    period: float | None = None,
) -> Outcome:
    """Run the control loop over a trace.

    Args:
        walks: by variant, all of a plan's.
        network: the link.
        decider: says which of them each step is.
        start: of the first step.
        seconds: no step starts later; the trace's length, if neither this nor `steps` is given.
        steps: how many, at most.
        period: seconds between the starts of steps; None for back to back.

    Raises InputError for a period that is not above 0.
    """
    if period is not None and not period > 0:
        raise InputError(f"a period of {period:g} s: it must be above 0")
    if seconds is None:
        seconds = network.up.seconds if steps is None else math.inf
    most = math.inf if steps is None else steps
    starts: list[float] = []
    latencies: list[float] = []
    variants: list[int] = []
    now = start
    while now < seconds and len(starts) < most:
        variant = decider.decide(now)
        before = variants[-1] if variants else None
        end = walks[variant].end(now, network, decider.busy, before)
        decider.ended(variant, now, end)
        starts.append(now)
        latencies.append(end - now)
        variants.append(variant)
        now = end if period is None else _next_tick(now, end, period)
        if end <= starts[-1]:
            raise InputError("a step that takes no time: the plan's devices compute nothing")
    return Outcome(np.array(starts), np.array(latencies), np.array(variants))


def _next_tick(start: float, end: float, period: float) -> float:
    """The first tick at the end or later, and after that of `start`."""
    return start + period * max(1, math.ceil((end - start) / period - 1e-9))


class Fixed:
    """One variant in every step."""

    busy = 0.0

    def __init__(self, variant: int) -> None:
        self._variant = variant

    def decide(self, start: float) -> int:
        """It."""
        return self._variant

    def ended(self, variant: int, start: float, end: float) -> None:
        """Nothing to learn."""


class Clairvoyant:
    """The variant that ends first, with the trace known.

    Nothing overtakes on the link, so a step that starts earlier ends earlier. So no sequence of
    variants ends any step sooner than this one, back to back or at the ticks of a period. That
    holds if no switch moves state: this does not look ahead for what a switch moves.
    """

    busy = 0.0

    def __init__(self, walks: Sequence[StepWalk], network: SimulatedLink) -> None:
        self._walks = walks
        self._network = network

    def decide(self, start: float) -> int:
        """The first of those that end first."""
        ends = [walk.end(start, self._network) for walk in self._walks]
        return min(range(len(ends)), key=ends.__getitem__)

    def ended(self, variant: int, start: float, end: float) -> None:
        """Nothing to learn."""


def walks_of(plan: Plan) -> tuple[StepWalk, ...]:
    """Every variant of a plan, ready to be walked."""
    return tuple(StepWalk(plan, index) for index in range(len(plan.variants)))
