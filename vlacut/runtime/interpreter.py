"""The interpreter: walks a variant's schedule for one side.

What the other side sends is received late: only when a part, a move or the end of the step needs a
tensor that is still on its way. So a side computes what it can while the link works.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from vlacut.backend import Engine
from vlacut.errors import WireError
from vlacut.plan import Loop, Move, Plan, Run, Transfer, taken
from vlacut.pricing import Side
from vlacut.runtime.layout import cloud_parts
from vlacut.runtime.wire import TENSORS, Connection, Header


@dataclass
class Tally:
    """What one step took on this side.

    Attributes:
        part_ns: nanoseconds by part; the edge adds what the cloud reports of its own.
        wait_ns: nanoseconds spent waiting for frames.
        sent, received: bytes of tensors.
        frames: sent and received.
    """

    part_ns: dict[str, int] = field(default_factory=dict)
    wait_ns: int = 0
    sent: int = 0
    received: int = 0
    frames: int = 0


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
        self._cloud_parts = cloud_parts(plan, variant)
        self._held: dict[str, np.ndarray] = {}
        self._due: deque[tuple[int, int, Transfer]] = deque()
        self._awaited: Counter[str] = Counter()
        self.tally = Tally()

    def run(self, held: Mapping[str, np.ndarray], wanted: Iterable[str]) -> list[np.ndarray]:
        """Carry the step out, from these tensors; returns those wanted at its end.

        Raises PeerLost or WireError if the other side fails, BackendError if an engine does.
        """
        self._held = dict(held)
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
        start = time.perf_counter_ns()
        self._held.update(self._engines[name].run({key: self._held[key] for key in part.inputs}))
        spent = time.perf_counter_ns() - start
        self.tally.part_ns[name] = self.tally.part_ns.get(name, 0) + spent

    def _send(self, transfer: Transfer, position: int, trip: int) -> None:
        self._arrive(transfer.tensors)
        arrays = [self._held[key] for key in transfer.tensors]
        nbytes = sum(array.nbytes for array in arrays)
        if self._side is Side.CLOUD:
            spent = [self.tally.part_ns.get(part.name, 0) for part in self._cloud_parts]
            arrays.insert(0, np.array(spent, ">u8"))
        total = sum(array.nbytes for array in arrays)
        header = Header(TENSORS, self._variant, position, trip, self._step, total)
        self._link().send(header, arrays)
        self.tally.sent += nbytes
        self.tally.frames += 1

    def _arrive(self, keys: Iterable[str]) -> None:
        """Receive until none of these tensors is on its way."""
        for key in keys:
            while self._awaited[key]:
                self._take_next()

    def _take_next(self) -> None:
        """Receive the frame that is due; frames come in the order of the schedule."""
        start = time.perf_counter_ns()
        frame = self._link().receive()
        self.tally.wait_ns += time.perf_counter_ns() - start
        position, trip, transfer = self._due.popleft()
        found = frame.header
        if (found.step, found.variant, found.position, found.trip) != (
            self._step,
            self._variant,
            position,
            trip,
        ):
            raise WireError(
                f"the peer sent {found}, due was transfer {position} trip {trip} of step "
                f"{self._step}"
            )
        for key, array in zip(transfer.tensors, frame.tensors, strict=True):
            self._held[key] = array
            self.tally.received += array.nbytes
        self._awaited.subtract(transfer.tensors)
        self.tally.frames += 1
        if self._side is Side.EDGE:
            names = (part.name for part in self._cloud_parts)
            self.tally.part_ns.update(zip(names, frame.cloud_ns, strict=True))

    def _link(self) -> Connection:
        if self._connection is None:
            raise WireError(
                f"variant {self._plan.variants[self._variant].name} crosses the link, and there "
                f"is no connection; name the cloud's HOST:PORT"
            )
        return self._connection
