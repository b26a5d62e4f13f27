"""The interpreter: walks a variant's route for one side, step after step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from vlacut.backend import Engine, OpenEngine, Tensor
from vlacut.cost_graph import Side
from vlacut.errors import WireError
from vlacut.plan import Part
from vlacut.runtime.clock import Exchange
from vlacut.runtime.connection import Connection
from vlacut.runtime.opened import host_arrays
from vlacut.runtime.receiver import Frame, train_of
from vlacut.runtime.route import Compute, Due, Route, Send
from vlacut.runtime.tally import Span, Tally
from vlacut.runtime.wire import FIXED_TIMES, HEADER_BYTES, TENSORS, Header

_WORTH_A_THREAD = 64 * 1024  # bytes


class StepAbandoned(Exception):
    """The edge has begun a later step: nobody waits for this one's action."""


class Walk:
    """One control step on one side.

    Args:
        route: what this side does in the step.
        engines: this side's parts, by name; opened, if what they make shall stay on their device.
        connection: to the other side; None where the variant does not cross.
        step: number of the step.
        meanwhile: called once, when what is to be sent first is on its way.
    """

    def __init__(
        self,
        route: Route,
        engines: Mapping[str, Engine | OpenEngine],
        connection: Connection | None,
        step: int,
        meanwhile: Callable[[], object] | None = None,
    ) -> None:
        self._route = route
        self._side = route.side
        self._engines = engines
        self._connection = connection
        self._step = step
        self._meanwhile = meanwhile
        self._held: dict[str, Tensor] = {}
        self._taken = 0
        self._taken_ns = 0
        self._taken_first_ns = 0
        self.tally = Tally()

    def run(self, held: Mapping[str, np.ndarray], wanted: Iterable[str]) -> list[np.ndarray]:
        """Carry the step out, from these tensors; returns those wanted at its end.

        Those received are overwritten by the next step. Raises PeerLost or WireError if the other
        side fails, BackendError if an engine does, DeadlineMissed if the connection's deadline
        passes, StepAbandoned if the edge has begun a later step.
        """
        self._held = dict(held)
        dropped = self._connection.dropped if self._connection else 0
        if self._connection:
            self._connection.begin()
        for stop in self._route.stops:
            while self._taken < stop.needs:
                self._take_next()
            if isinstance(stop, Compute):
                self._run_part(stop)
            elif isinstance(stop, Send):
                self._send(stop)
            else:
                self._held[stop.target] = self._held[stop.source]
        while self._taken < len(self._route.due):
            self._take_next()
        if self._connection:
            self._connection.flush()
            self.tally.late = self._connection.dropped - dropped
        return host_arrays(map(self._held.__getitem__, wanted))

    def _run_part(self, stop: Compute) -> None:
        name, tally = stop.part.name, self.tally
        if self._connection is not None:
            self._check_use(self._connection)
        start = time.perf_counter_ns()
        self._held.update(self._run_engine(stop))
        end = time.perf_counter_ns()
        tally.part_ns[name] = tally.part_ns.get(name, 0) + end - start
        tally.spans.append(Span(name, start, end))

    def _run_engine(self, stop: Compute) -> Mapping[str, Tensor]:
        """What a part makes; bytes move meanwhile where there are more than sockets hold."""
        connection, engine = self._connection, self._engines[stop.part.name]
        if connection is None or stop.incoming + connection.unsent < _WORTH_A_THREAD:
            return self._made(engine, stop.part)
        with connection.moving(self._step):
            return self._made(engine, stop.part)

    def _made(self, engine: Any, part: Part) -> Mapping[str, Tensor]:
        take = getattr(engine, "take", None)
        if take is None:
            arrays = host_arrays(map(self._held.__getitem__, part.inputs))
            made: Mapping[str, Tensor] = engine.run(dict(zip(part.inputs, arrays, strict=True)))
            return made
        for key in part.inputs:  # kept: what another part or trip reads too is taken once
            self._held[key] = take(key, self._held[key])
        made = engine.run({key: self._held[key] for key in part.inputs})
        spent = self.tally.device_ns
        spent[part.name] = spent.get(part.name, 0) + engine.device_ns
        return made

    def _check_use(self, connection: Connection) -> None:
        """An engine cannot be interrupted: see first that somebody will want what it makes."""
        connection.check_deadline()
        if self._side is Side.CLOUD and connection.superseded(self._step):
            raise StepAbandoned

    def _send(self, stop: Send) -> None:
        arrays, tally, route = self._encoded(stop), self.tally, self._route
        nbytes = total = sum(array.nbytes for array in arrays)
        now = time.perf_counter_ns()
        if self._side is Side.CLOUD:
            times = route.times.pack(*self._times(now))
            arrays.insert(0, np.frombuffer(times, np.uint8))
            total += len(times)
        header = Header(TENSORS, route.variant, stop.position, stop.trip, self._step, total)
        tally.sent_ns.append(now)
        tally.sent_bytes.append(HEADER_BYTES + total)
        self._link().send(header, arrays)
        tally.sent += nbytes
        tally.frames += 1

    def _encoded(self, stop: Send) -> list[np.ndarray]:
        arrays = host_arrays(map(self._held.__getitem__, stop.tensors))
        if not stop.encodes:
            return arrays
        encoded, place = self._link().encoded, (self._route.variant, stop.position, stop.trip)
        start = time.perf_counter_ns()
        pairs = zip(stop.coded, arrays, strict=True)
        made = [encoded(place, key, codec, array) for (key, codec), array in pairs]
        self._note_codec("encode", start)
        return made

    def _decoded(self, frame: Frame) -> tuple[np.ndarray, ...]:
        if not frame.room.coded:
            return frame.tensors
        start = time.perf_counter_ns()
        made = frame.room.decoded()
        self._note_codec("decode", start)
        return made

    def _note_codec(self, what: str, start: int) -> None:
        end = time.perf_counter_ns()
        self.tally.codec_ns += end - start
        self.tally.spans.append(Span(what, start, end))

    def _times(self, now: int) -> list[int]:
        """What the cloud says of its time: see the docstring of `wire`."""
        tally = self.tally
        train = train_of(self._link().take_heard())
        times = [self._taken, self._taken_ns, now, self._taken_first_ns, *train, tally.codec_ns]
        began = {name: start_ns for name, start_ns, _ in tally.spans}
        for part in self._route.cloud_parts:
            times += (tally.part_ns.get(part.name, 0), began.get(part.name, 0))
        return times

    def _take_next(self) -> None:
        """Receive the frame that is due; frames come in the order of the schedule."""
        route, rank, tally = self._route, self._taken, self.tally
        due = route.due[rank]
        frame = self._receive(due)
        if frame.header[0] != TENSORS or frame.header[1:4] != due:
            raise WireError(f"the peer sent {frame.header}, due was {due} of step {self._step}")
        keys = route.transfers[rank].tensors
        self._held.update(zip(keys, self._decoded(frame), strict=True))
        tally.received += route.sizes[rank]
        tally.frames += 1
        self._taken = rank + 1
        self._taken_ns = frame.arrived_ns
        self._taken_first_ns = frame.burst.first_ns
        if self._side is Side.EDGE:
            self._note_times(frame)

    def _receive(self, due: Due) -> Frame:
        """The next frame of this step; frames of earlier ones come too late."""
        if self._meanwhile is not None:
            meanwhile, self._meanwhile = self._meanwhile, None
            meanwhile()
        frame = self._link().receive(self._step, due)
        if frame.header.step > self._step:
            if self._side is Side.CLOUD:
                self._link().put_back(frame)
                raise StepAbandoned
            raise WireError(f"the cloud is at step {frame.header.step}, the edge at {self._step}")
        return frame

    def _note_times(self, frame: Frame) -> None:
        """What the cloud says of its time: see the docstring of `wire`."""
        times, tally = frame.times, self.tally
        taken, taken_ns, sent_ns, taken_first_ns = times[:4]
        tally.cloud_codec_ns = times[FIXED_TIMES - 1]
        if 0 < taken <= len(tally.sent_ns):
            start_ns = tally.sent_ns[taken - 1]
            tally.exchanges.append(Exchange(start_ns, taken_ns, sent_ns, frame.arrived_ns))
            tally.pings.append(Exchange(start_ns, taken_first_ns, sent_ns, frame.burst.first_ns))
            tally.passed.append((tally.sent_bytes[taken - 1], frame.nbytes))
        spent, began = times[FIXED_TIMES::2], times[FIXED_TIMES + 1 :: 2]
        for part, total, start in zip(self._route.cloud_parts, spent, began, strict=True):
            more = total - tally.part_ns.get(part.name, 0)
            if more > 0:
                tally.part_ns[part.name] = total
                tally.reported.append(Span(part.name, start, start + more))

    def _link(self) -> Connection:
        if self._connection is None:
            raise WireError(
                f"variant {self._route.name} crosses the link, and there is no connection; name "
                f"the cloud's HOST:PORT"
            )
        return self._connection
