"""The interpreter: walks a variant's schedule for one side.

What the other side sends is received late: only when a part, a move or the end of the step needs a
tensor that is still on its way. So a side computes what it can while the link works.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np

from vlacut.backend import Engine
from vlacut.errors import WireError
from vlacut.plan import Loop, Move, Plan, Run, Transfer, taken
from vlacut.pricing import Side
from vlacut.runtime.clock import Exchange
from vlacut.runtime.connection import Connection, Frame
from vlacut.runtime.layout import FIXED_TIMES
from vlacut.runtime.wire import TENSORS, Header

_WORTH_A_THREAD = 64 * 1024  # bytes


class StepAbandoned(Exception):
    """The edge has begun a later step: nobody waits for this one's action."""


@dataclass(frozen=True)
class Span:
    """Something that took time, in nanoseconds on the clock of the side it was on."""

    name: str
    start_ns: int
    end_ns: int


@dataclass
class Tally:
    """What one step took on this side.

    Attributes:
        part_ns: nanoseconds by part; the edge adds what the cloud reports of its own.
        spans: runs of this side's parts, on its clock.
        reported: runs of the cloud's parts, on the cloud's clock; runs between two frames are one.
        sent_ns: when each frame began to be sent.
        exchanges: a frame of the cloud each, and the last one it had taken of the edge's.
        sent, received: bytes of tensors.
        frames: sent and received.
        late: frames of earlier steps that were dropped.
    """

    part_ns: dict[str, int] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    reported: list[Span] = field(default_factory=list)
    sent_ns: list[int] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    sent: int = 0
    received: int = 0
    frames: int = 0
    late: int = 0


class Walk:
    """One control step of one side.

    Args:
        plan: agreed with the other side.
        side: this one.
        engines: by part name, at least those of this side and variant.
        connection: None where the variant sends nothing.
        step: number of the step.
        variant: index of the variant.
    """

    def __init__(
        self,
        plan: Plan,
        side: Side,
        engines: Mapping[str, Engine],
        connection: Connection | None,
        step: int,
        variant: int,
    ) -> None:
        self._plan = plan
        self._side = side
        self._engines = engines
        self._connection = connection
        self._step = step
        self._variant = variant
        self._cloud_parts = plan.cloud_parts[variant]
        self._held: dict[str, np.ndarray] = {}
        self._due: deque[tuple[int, int, Transfer]] = deque()
        self._awaited: Counter[str] = Counter()
        self._taken = 0
        self._taken_ns = 0
        self.tally = Tally()

    def run(self, held: Mapping[str, np.ndarray], wanted: Iterable[str]) -> list[np.ndarray]:
        """Carry the step out, from these tensors; returns those wanted at its end.

        Those received are overwritten by the next step. Raises PeerLost or WireError if the other
        side fails, BackendError if an engine does, DeadlineMissed if the connection's deadline
        passes, StepAbandoned if the edge has begun a later step.
        """
        self._held = dict(held)
        dropped = self._connection.dropped if self._connection else 0
        position = 0
        for item in self._plan.variants[self._variant].schedule:
            if isinstance(item, Loop):
                for trip in range(item.trips):
                    for offset, inner in enumerate(item.body):
                        if isinstance(inner, Run) or taken(inner.trips, trip, item.trips):
                            self._do(inner, position + offset, trip)
                position += len(item.body)
            else:
                self._do(item, position, 0)
                position += 1
        while self._due:
            self._take_next()
        if self._connection:
            self._connection.flush()
            self.tally.late = self._connection.dropped - dropped
        return [self._held[key] for key in wanted]

    def _do(self, item: Run | Transfer | Move, position: int, trip: int) -> None:
        if isinstance(item, Transfer):
            if item.source is self._side:
                self._send(item, position, trip)
            else:
                self._due.append((position, trip, item))
                self._awaited.update(item.tensors)
        elif isinstance(item, Run):
            if self._plan.part[item.part].side is self._side:
                self._run_part(item.part)
        elif self._side in item.sides:
            self._arrive((item.source,))
            self._held[item.target] = self._held[item.source]

    def _run_part(self, name: str) -> None:
        part = self._plan.part[name]
        self._arrive(part.inputs)
        self._check_use()
        start = time.perf_counter_ns()
        with self._moving():
            made = self._engines[name].run({key: self._held[key] for key in part.inputs})
        self._held.update(made)
        end = time.perf_counter_ns()
        self.tally.part_ns[name] = self.tally.part_ns.get(name, 0) + end - start
        self.tally.spans.append(Span(name, start, end))

    def _moving(self) -> AbstractContextManager[object]:
        """Moves bytes while an engine runs, where there are more than sockets hold meanwhile."""
        if self._connection is None:
            return nullcontext()
        nbytes = sum(self._plan.spec[key].nbytes for _, _, due in self._due for key in due.tensors)
        if nbytes + self._connection.unsent < _WORTH_A_THREAD:
            return nullcontext()
        return self._connection.moving(self._step)

    def _check_use(self) -> None:
        """An engine cannot be interrupted: see first that somebody will want what it makes."""
        if self._connection is None:
            return
        self._connection.check_deadline()
        if self._side is Side.CLOUD and self._connection.superseded(self._step):
            raise StepAbandoned

    def _send(self, transfer: Transfer, position: int, trip: int) -> None:
        self._arrive(transfer.tensors)
        arrays = [self._held[key] for key in transfer.tensors]
        nbytes = sum(array.nbytes for array in arrays)
        now = time.perf_counter_ns()
        if self._side is Side.CLOUD:
            arrays.insert(0, np.array(self._times(now), ">u8"))
        total = sum(array.nbytes for array in arrays)
        header = Header(TENSORS, self._variant, position, trip, self._step, total)
        self.tally.sent_ns.append(now)
        self._link().send(header, arrays)
        self.tally.sent += nbytes
        self.tally.frames += 1

    def _times(self, now: int) -> list[int]:
        """What the cloud says of its time: see the docstring of `wire`."""
        began = {span.name: span.start_ns for span in self.tally.spans}
        times = [self._taken, self._taken_ns, now]
        for part in self._cloud_parts:
            times += (self.tally.part_ns.get(part.name, 0), began.get(part.name, 0))
        return times

    def _arrive(self, keys: Iterable[str]) -> None:
        """Receive until none of these tensors is on its way."""
        for key in keys:
            while self._awaited[key]:
                self._take_next()

    def _take_next(self) -> None:
        """Receive the frame that is due; frames come in the order of the schedule."""
        frame = self._receive()
        position, trip, transfer = self._due.popleft()
        found = frame.header
        if (found.variant, found.position, found.trip) != (self._variant, position, trip):
            raise WireError(
                f"the peer sent {found}, due was transfer {position} trip {trip} of step "
                f"{self._step}"
            )
        for key, array in zip(transfer.tensors, frame.tensors, strict=True):
            self._held[key] = array
            self.tally.received += array.nbytes
        self._awaited.subtract(transfer.tensors)
        self.tally.frames += 1
        self._taken += 1
        self._taken_ns = frame.arrived_ns
        if self._side is Side.EDGE:
            self._note_times(frame)

    def _receive(self) -> Frame:
        """The next frame of this step; frames of earlier ones come too late."""
        frame = self._link().receive(self._step)
        if frame.header.step > self._step:
            if self._side is Side.CLOUD:
                self._link().put_back(frame)
                raise StepAbandoned
            raise WireError(f"the cloud is at step {frame.header.step}, the edge at {self._step}")
        return frame

    def _note_times(self, frame: Frame) -> None:
        """What the cloud says of its time: see the docstring of `wire`."""
        taken, taken_ns, sent_ns = frame.times[:FIXED_TIMES]
        if 0 < taken <= len(self.tally.sent_ns):
            start_ns = self.tally.sent_ns[taken - 1]
            exchange = Exchange(start_ns, taken_ns, sent_ns, frame.arrived_ns)
            self.tally.exchanges.append(exchange)
        spent, began = frame.times[FIXED_TIMES::2], frame.times[FIXED_TIMES + 1 :: 2]
        for part, total, start in zip(self._cloud_parts, spent, began, strict=True):
            more = total - self.tally.part_ns.get(part.name, 0)
            if more > 0:
                self.tally.part_ns[part.name] = total
                self.tally.reported.append(Span(part.name, start, start + more))

    def _link(self) -> Connection:
        if self._connection is None:
            raise WireError(
                f"variant {self._plan.variants[self._variant].name} crosses the link, and there "
                f"is no connection; name the cloud's HOST:PORT"
            )
        return self._connection
