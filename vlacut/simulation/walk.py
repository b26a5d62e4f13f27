"""A control step on paper: when the action of a variant is there, by its own schedule.

The two sides walk the schedule as `vlacut.runtime.interpreter` does: a part runs when its inputs
are there, a transfer is sent when its tensors are and does not hold its sender up, and what comes
is waited for when something needs it. Parts take the plan's times; a frame takes its bytes (header
and reported times included) at the rate that the trace has meanwhile, after the frames before it,
then half a round trip and the link's cost of a message. So work and transfers may overlap, which
the price of a cut, a bound, leaves out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import IntEnum

from vlacut.hardware.service import Service
from vlacut.plan import Loop, Move, Plan, Run, Transfer, taken
from vlacut.pricing import Side
from vlacut.runtime.wire import FIXED_TIMES, HEADER_BYTES

_TIME_BYTES = 8


class _Do(IntEnum):
    """What happens: a side computes for so many seconds, sends so many bytes, waits for a frame."""

    COMPUTE = 0
    SEND = 1
    WAIT = 2


_COMPUTE, _SEND, _WAIT = _Do.COMPUTE, _Do.SEND, _Do.WAIT
_Op = tuple[_Do, int, float]  # what, which side (0 edge, 1 cloud), and how much or which frame
_INDEX = {Side.EDGE: 0, Side.CLOUD: 1}


@dataclass(frozen=True)
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
class Network:
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
        self._ops = tuple(_joined(_Compiler(self.plan, self.variant).ops()))

    @property
    def crosses(self) -> bool:
        """Whether anything crosses the link."""
        return self.plan.crosses[self.variant]

    def end(self, start: float, network: Network, busy: float = 0.0) -> float:
        """When the action of a step that starts at `start` is there.

        The link is idle then, or its uplink has bytes of before to carry until `busy`.
        """
        now = [start, start]
        free = [busy if busy > start else start, start]
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

    def passages(self, start: float, network: Network, busy: float = 0.0) -> list[Passage]:
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
                times = now[side], began, free[side], there
                passed.append(Passage(side == 0, int(amount), *times, awaited=there))
        return passed


class _Compiler:
    """Walks a schedule once, as both sides."""

    def __init__(self, plan: Plan, variant: int) -> None:
        self._plan = plan
        self._schedule = plan.variants[variant].schedule
        self._times = _TIME_BYTES * (FIXED_TIMES + 2 * len(plan.cloud_parts[variant]))
        self._frames = 0
        self._due: dict[Side, deque[tuple[int, tuple[str, ...]]]] = {s: deque() for s in Side}
        self._awaited: dict[Side, set[str]] = {side: set() for side in Side}

    def ops(self) -> Iterator[_Op]:
        for step in self._schedule:
            trips = step.trips if isinstance(step, Loop) else 1
            body = step.body if isinstance(step, Loop) else (step,)
            for trip in range(trips):
                for item in body:
                    when = None if isinstance(item, Run) or trips == 1 else item.trips
                    if when is None or taken(when, trip, trips):
                        yield from self._item(item)
        yield from self._drain(Side.EDGE)

    def _item(self, item: Run | Transfer | Move) -> Iterator[_Op]:
        if isinstance(item, Run):
            part = self._plan.part[item.part]
            yield from self._need(part.side, part.inputs)
            yield _Do.COMPUTE, _INDEX[part.side], part.seconds
        elif isinstance(item, Transfer):
            yield from self._need(item.source, item.tensors)
            nbytes = HEADER_BYTES + sum(self._plan.spec[key].nbytes for key in item.tensors)
            if item.source is Side.CLOUD:
                nbytes += self._times
            yield _Do.SEND, _INDEX[item.source], nbytes
            there = item.source.other
            self._due[there].append((self._frames, item.tensors))
            self._awaited[there].update(item.tensors)
            self._frames += 1
        else:
            for side in item.sides:
                yield from self._need(side, (item.source,))

    def _need(self, side: Side, keys: Iterable[str]) -> Iterator[_Op]:
        """Take frames, in order, until none of the keys is on its way."""
        while any(key in self._awaited[side] for key in keys):
            yield self._take(side)

    def _drain(self, side: Side) -> Iterator[_Op]:
        while self._due[side]:
            yield self._take(side)

    def _take(self, side: Side) -> _Op:
        frame, _ = self._due[side].popleft()
        self._awaited[side] = {key for _, keys in self._due[side] for key in keys}
        return _Do.WAIT, _INDEX[side], frame


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
