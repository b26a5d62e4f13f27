"""A control step on paper: when the action of a variant is there, by its own schedule.

The two sides follow their routes (`vlacut.runtime.wire.route`): a part runs when its inputs are
there, a transfer is sent when its tensors are and does not hold its sender up, and what comes is
waited for when something needs it. Parts and codecs take the plan's times; a frame takes its bytes
(header and reported times included) at the rate that the trace has meanwhile, after the frames
before it, then half a round trip and the link's cost of a message. So work and transfers may
overlap, which the price of a cut, a bound, leaves out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import IntEnum

from vlacut.hardware.service import Service
from vlacut.plans.plan import Plan
from vlacut.runtime.wire.protocol.header import HEADER_BYTES
from vlacut.runtime.wire.route import Compute, Send, both_routes
from vlacut.tensor.codec import Codec


class _Do(IntEnum):
    """What happens: a side computes for so many seconds, sends so many bytes, waits for a frame."""

    COMPUTE = 0
    SEND = 1
    WAIT = 2


_COMPUTE, _SEND, _WAIT = _Do.COMPUTE, _Do.SEND, _Do.WAIT
_Op = tuple[_Do, int, float]  # what, which side (0 edge, 1 cloud), and how much or which frame


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A frame that crossed the emulated link. Seconds on the trace's clock.

    Attributes:
        up: whether it went from the edge to the cloud.
        nbytes: header included.
        sent: when its sender had it ready.
        began: when its first byte left: it was sent, and the frames before it were through.
        through: when its last byte had left.
        arrived: when its last byte was there.
        awaited: since when its receiver has waited for it, and done nothing else.
    """

    up: bool
    nbytes: int
    sent: float
    began: float
    through: float
    arrived: float
    awaited: float


@dataclass(frozen=True)
class SimulatedLink:
    """The link as the simulation sees it.

    Attributes:
        up, down: what it carries.
        hop_s: from a frame's last byte to its arrival: half a round trip, and a message's cost.
        rtt_s: round-trip time.
    """

    up: Service
    down: Service
    hop_s: float
    rtt_s: float


@dataclass
class StepWalk:
    """A variant's schedule, ready to be walked many times.

    Args:
        plan: of the bundle.
        variant: index of the plan's.
    """

    plan: Plan
    variant: int
    _ops: tuple[_Op, ...] = field(init=False)

    def __post_init__(self) -> None:
        self._ops = tuple(_joined(_ops(self.plan, self.variant)))

    @property
    def crosses(self) -> bool:
        """Whether anything crosses the link."""
        return self.plan.crosses[self.variant]

    def end(
        self,
        start: float,
        network: SimulatedLink,
        busy: float = 0.0,
        before: int | None = None,
    ) -> float:
        """When the action of a step that starts at `start` is there.

        The link is idle then, or its uplink has bytes of before to carry until `busy`. `before` is
        the variant of the step before, if there was one: state that this one reads elsewhere moves.
        """
        now = [start, start]
        free = [busy if busy > start else start, start]
        if before is not None and before != self.variant and self.plan.states:
            self._move(before, now, free, network)
        arrived: list[float] = []
        services = network.up, network.down
        for what, side, amount in self._ops:
            if what is _COMPUTE:
                now[side] += amount
            elif what is _WAIT:
                there = arrived[int(amount)]
                now[side] = there if there > now[side] else now[side]
            else:
                began = now[side] if now[side] > free[side] else free[side]
                free[side] = services[side].finish(began, amount)
                arrived.append(free[side] + network.hop_s)
        return now[0]

    def _move(
        self, before: int, now: list[float], free: list[float], network: SimulatedLink
    ) -> None:
        """State goes up ahead of the step's frames; what the edge lacks, it asks and waits for."""
        up, down = self.plan.moves[before][self.variant]
        if up:
            free[0] = network.up.finish(free[0], up + HEADER_BYTES)
        if down:
            free[0] = network.up.finish(free[0], HEADER_BYTES)
            free[1] = network.down.finish(free[0] + network.hop_s, down + HEADER_BYTES)
            now[0] = free[1] + network.hop_s

    def passages(self, start: float, network: SimulatedLink, busy: float = 0.0) -> list[Passage]:
        """The frames of the same step, in the order of the schedule."""
        now, free = [start, start], [max(start, busy), start]
        passed: list[Passage] = []
        services = network.up, network.down
        for what, side, amount in self._ops:
            if what is _COMPUTE:
                now[side] += amount
            elif what is _WAIT:
                frame = int(amount)
                passed[frame] = replace(passed[frame], awaited=now[side])
                now[side] = max(now[side], passed[frame].arrived)
            else:
                began = max(now[side], free[side])
                free[side] = services[side].finish(began, amount)
                there = free[side] + network.hop_s
                passed.append(
                    Passage(
                        up=side == 0,
                        nbytes=int(amount),
                        sent=now[side],
                        began=began,
                        through=free[side],
                        arrived=there,
                        awaited=there,
                    )
                )
        return passed


def _ops(plan: Plan, variant: int) -> Iterator[_Op]:
    """What both sides do in a step, each after what it waits for of the other."""
    routes = both_routes(plan, variant)
    stops = [deque(route.stops) for route in routes]
    frames: list[list[int]] = [[], []]  # sent by each side, numbered together
    decodes: list[list[float]] = [[], []]  # what its receiver then takes for each
    taken = [0, 0]

    def take(side: int, needs: int) -> Iterator[_Op]:
        other = 1 - side
        yield _WAIT, side, frames[other][needs - 1]
        yield _COMPUTE, side, sum(decodes[other][taken[side] : needs])
        taken[side] = needs

    while any(stops):
        for side, other in ((0, 1), (1, 0)):
            while stops[side] and stops[side][0].needs <= len(frames[other]):
                stop = stops[side].popleft()
                if stop.needs > taken[side]:
                    yield from take(side, stop.needs)
                if isinstance(stop, Compute):
                    yield _COMPUTE, side, stop.part.seconds
                elif isinstance(stop, Send):
                    frames[side].append(len(frames[0]) + len(frames[1]))
                    edge_s, cloud_s = _codec_seconds(plan, variant, stop)
                    decodes[side].append(edge_s if side else cloud_s)
                    yield _COMPUTE, side, cloud_s if side else edge_s
                    times = routes[side].times.size if side else 0
                    nbytes = plan.sent_bytes(plan.variants[variant], stop.coded)
                    yield _SEND, side, HEADER_BYTES + times + nbytes
    awaited = routes[0].awaited
    if awaited > taken[0]:  # a step ends when all that the edge waits for is there
        yield from take(0, awaited)


def _codec_seconds(plan: Plan, variant: int, stop: Send) -> tuple[float, float]:
    """What the codecs of one frame take on the edge and in the cloud, in seconds."""
    edge_s = cloud_s = 0.0
    there = plan.variants[variant].crossing if stop.encodes else {}
    for key, codec in stop.coded:
        if codec is not Codec.NONE and key in there:
            share = plan.spec[key].nbytes / there[key].raw_bytes
            edge_s += there[key].edge_s * share
            cloud_s += there[key].cloud_s * share
    return edge_s, cloud_s


def _joined(ops: Iterable[_Op]) -> Iterator[_Op]:
    """The same with each side's neighbouring computations as one: sides meet at frames alone."""
    pending = [0.0, 0.0]
    for what, side, amount in ops:
        if what is _Do.COMPUTE:
            pending[side] += amount
            continue
        if pending[side]:
            yield _Do.COMPUTE, side, pending[side]
            pending[side] = 0.0
        yield what, side, amount
    if pending[0]:  # what the cloud does after its last frame is nobody's wait
        yield _Do.COMPUTE, 0, pending[0]
