"""The interpreter: walks a variant's route for one side, step after step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from time import perf_counter_ns
from typing import Any

import numpy as np

from vlacut.backend import Tensor
from vlacut.errors import BackendError, WireError
from vlacut.hardware import Side
from vlacut.plans.plan import Part
from vlacut.runtime.engines import host_arrays
from vlacut.runtime.tally import Tally
from vlacut.runtime.wire.burst import train_of
from vlacut.runtime.wire.connection import Connection
from vlacut.runtime.wire.frame import Frame
from vlacut.runtime.wire.protocol.header import HEADER_BYTES, TENSORS
from vlacut.runtime.wire.route import Compute, Recall, Rename, Route, Send

_WORTH_A_THREAD = 64 * 1024  # bytes
_NO_STATE: Mapping[str, Tensor] = {}


class StepAbandoned(Exception):
    """The edge has begun a later step: nobody waits for this one's action."""


class Walk:
    """The control steps of a variant on one side, one after the other.

    Args:
        route: what this side does in a step.
        engines: this side's parts, by name; opened, if what they make shall stay on their device.

    Attributes:
        crosses: whether it sends or receives anything.
        tally: of the step that was begun last.
        kept: state that it left on this side, by key; what the cloud still has to send of it comes
            in later.
    """

    def __init__(self, route: Route, engines: Mapping[str, Any]) -> None:
        self.crosses = route.crosses
        self.tally = Tally()
        self.kept: dict[str, Tensor] = {}
        self._route = route
        self._on_cloud = route.side is Side.CLOUD
        self._engines: dict[str, Any] = dict(engines)
        self._takes = {name: getattr(each, "take", None) for name, each in engines.items()}
        # Where no engine has a device of its own, all tensors are in host memory.
        self._on_host: Callable[[Iterable[Any]], list[np.ndarray]]
        self._on_host = host_arrays if any(self._takes.values()) else list
        doings: dict[type, Callable[[Walk, Any], None]] = {
            Compute: Walk._compute,
            Send: Walk._send,
            Rename: Walk._rename,
            Recall: Walk._recall,
        }
        stops = (
            # What is sealed ahead is one connection's: others are at other steps.
            stop._replace(envelope=copy(stop.envelope)) if isinstance(stop, Send) else stop
            for stop in route.stops
        )
        self._course = [(stop.needs, doings[type(stop)], stop) for stop in stops]

    def run(
        self,
        held: Mapping[str, np.ndarray],
        wanted: Iterable[str],
        step: int,
        connection: Connection | None = None,
        meanwhile: Callable[[], object] | None = None,
        base: int = 0,
        state: Mapping[str, Tensor] = _NO_STATE,
    ) -> list[np.ndarray]:
        """Carry a step out; returns copies of the tensors wanted at its end.

        Raises PeerLost or WireError if the other side fails, BackendError if an engine does,
        DeadlineMissed if the connection's deadline passes, StepAbandoned if the edge has begun a
        later step.

        Args:
            held: tensors that are there.
            wanted: keys.
            step: its number.
            connection: to the other side; None where the variant does not cross.
            meanwhile: called once, when what is to be sent first is on its way.
            base: the version of state that it builds on.
            state: that, on this side, by key; more may come in on the connection.
        """
        route, tally = self._route, Tally(cloud_parts=self._route.cloud_parts)
        self.tally = tally
        self._held: dict[str, Tensor] = dict(held)
        self._step, self._connection, self._meanwhile = step, connection, meanwhile
        self._base, self._state = base, state
        self._taken = self._taken_ns = self._taken_first_ns = self._codec_ns = 0
        self._told = [0] * (2 * len(route.cloud_parts))
        if connection is None:
            self._check_alone()
        else:
            dropped = connection.receiver.dropped
            if connection.outbox.nbytes:
                connection.leave_written()
        try:
            for needs, do, stop in self._course:
                while self._taken < needs:
                    self._take_next()
                do(self, stop)
            awaited = len(route.due) if self._on_cloud else route.awaited
            while self._taken < awaited:
                self._take_next()
            if connection is not None:
                if connection.outbox.nbytes:
                    connection.flush()
                tally.late = connection.receiver.dropped - dropped
            if route.remembers:
                self._keep_state()
            return list(map(np.array, self._on_host(map(self._held.__getitem__, wanted))))
        finally:
            self._held = {}  # a device writes anew over what nobody holds

    def _check_alone(self) -> None:
        if self._route.crosses:
            raise WireError(
                f"variant {self._route.name} crosses the link, and there is no connection; name "
                f"the cloud's HOST:PORT"
            )

    def _rename(self, stop: Rename) -> None:
        self._held[stop.target] = self._held[stop.source]

    def _recall(self, stop: Recall) -> None:
        state = self._state
        for key in stop.keys:
            if key not in state:
                if self._connection is None:
                    raise WireError(f"state {key} is not on this side, and there is no connection")
                self._connection.wait_for(key, state)
            self._held[key] = state[key]

    def _keep_state(self) -> None:
        """What this side has for the next step; what the cloud sends of it yet is owed."""
        route, held = self._route, self._held
        self.kept = kept = {key: held[key] for key in route.stays if key in held}
        owed = self._owe(kept) if self._taken < len(route.due) else ()
        for source, target, received in route.keeps:
            if source not in owed:  # what was received lies where the next step's frames come in
                (copied,) = self._on_host((held[source],)) if received else (held[source],)
                kept[target] = np.array(copied) if received else copied

    def _owe(self, kept: dict[str, Tensor]) -> set[str]:
        """Take frames of state that are there, and leave word for the others; their tensors."""
        connection, route = self._connection, self._route
        assert connection is not None
        receiver = connection.receiver
        while receiver.inbox and self._taken < len(route.due):
            if receiver.inbox[0].step < self._step:
                receiver.inbox.popleft()
                receiver.dropped += 1
            else:
                self._take_next()
        targets: dict[str, list[str]] = {}
        for keep in route.keeps:
            targets.setdefault(keep.source, []).append(keep.target)
        late = set[str]()
        for rank in range(self._taken, len(route.due)):
            tensors = route.transfers[rank].tensors
            keys = [(at, to) for at, key in enumerate(tensors) for to in targets.get(key, ())]
            receiver.owe((TENSORS, self._step, route.due[rank]), kept, tuple(keys))
            self.tally.received += route.sizes[rank]
            late.update(tensors)
        return late

    def _compute(self, stop: Compute) -> None:
        connection, part = self._connection, stop.part
        if connection is None:
            unsent = 0
        else:
            # An engine cannot be interrupted: see first that somebody will want what it makes.
            if connection.until < math.inf:
                connection.check_deadline()
            if self._on_cloud and connection.superseded(self._step):
                raise StepAbandoned
            unsent = connection.outbox.nbytes
        start = perf_counter_ns()
        if connection is None or stop.incoming + unsent < _WORTH_A_THREAD:
            made = self._made(part)
        else:  # bytes move meanwhile: there are more than sockets hold
            with connection.moving(self._step):
                made = self._made(part)
        end = perf_counter_ns()
        self._held |= made
        self.tally.ran.append((part.name, start, end))
        if self._on_cloud:
            self._told[2 * stop.place] += end - start
            self._told[2 * stop.place + 1] = start

    def _made(self, part: Part) -> Mapping[str, Tensor]:
        held, name = self._held, part.name
        engine, take = self._engines[name], self._takes[name]
        if take is None:
            arrays = self._on_host(map(held.__getitem__, part.inputs))
            made: Mapping[str, Tensor] = engine.run(dict(zip(part.inputs, arrays, strict=True)))
            return made
        for key in part.inputs:  # kept: what another part or trip reads too is taken once
            held[key] = take(key, held[key])
        made = engine.run({key: held[key] for key in part.inputs})
        spent = self.tally.device_ns
        spent[name] = spent.get(name, 0) + engine.device_ns
        return made

    def _send(self, stop: Send) -> None:
        connection, tally = self._connection, self.tally
        assert connection is not None
        arrays = self._on_host(map(self._held.__getitem__, stop.tensors))
        if stop.encodes:
            arrays = self._encoded(connection, stop, arrays)
        nbytes, envelope = 0, stop.envelope
        for array in arrays:
            nbytes += array.nbytes
        if stop.varies:
            envelope = envelope.sized(envelope.nbytes - stop.nbytes + nbytes)
        elif nbytes != stop.nbytes:
            raise BackendError(
                f"{', '.join(stop.tensors)}: engines made {nbytes} bytes, the plan has "
                f"{stop.nbytes}"
            )
        now = perf_counter_ns()
        tally.posted.append((now, HEADER_BYTES + envelope.nbytes))
        times = self._times(connection, now) if self._on_cloud else b""
        base = 0 if self._on_cloud else self._base
        connection.post(envelope, self._step, arrays, times, base)
        tally.sent += nbytes

    def _encoded(
        self, connection: Connection, stop: Send, arrays: list[np.ndarray]
    ) -> list[np.ndarray]:
        start = perf_counter_ns()
        made = connection.encoded(stop.envelope.place, stop.coded, arrays)
        self._note_codec("encode", start)
        return made

    def _decoded(self, frame: Frame) -> tuple[np.ndarray, ...]:
        start = perf_counter_ns()
        made = frame.room.decoded()
        self._note_codec("decode", start)
        return made

    def _note_codec(self, what: str, start: int) -> None:
        end = perf_counter_ns()
        self._codec_ns += end - start
        self.tally.coded.append((what, start, end))

    def _times(self, connection: Connection, now: int) -> bytes:
        """What the cloud says of its time: see the docstring of `wire`."""
        train = train_of([heard.burst for heard in connection.take_heard()])
        mine = self._taken, self._taken_ns, now, self._taken_first_ns, *train, self._codec_ns
        return self._route.times.pack(*mine, *self._told)

    def _take_next(self) -> None:
        """Receive the frame that is due; frames come in the order of the schedule."""
        if self._meanwhile is not None:
            meanwhile, self._meanwhile = self._meanwhile, None
            meanwhile()
        connection, route, rank, tally = self._connection, self._route, self._taken, self.tally
        assert connection is not None
        due = route.due[rank]
        frame = connection.receive(self._step, due)
        if frame.step > self._step:
            self._leave_to(frame, connection)
        if frame.kind != TENSORS or frame.place != due:
            raise WireError(f"the peer sent {frame.header}, due was {due} of step {self._step}")
        tensors = self._decoded(frame) if frame.room.coded else frame.room.tensors
        self._held.update(zip(route.transfers[rank].tensors, tensors, strict=True))
        tally.received += frame.nbytes - route.ahead_bytes
        tally.taken = self._taken = rank + 1
        self._taken_ns = frame.arrived_ns
        self._taken_first_ns = frame.burst.first_ns
        if not self._on_cloud:
            tally.answers.append(frame)

    def _leave_to(self, frame: Frame, connection: Connection) -> None:
        """Give the step up for a later one, which only the edge begins."""
        if self._on_cloud:
            connection.put_back(frame)
            raise StepAbandoned
        raise WireError(f"the cloud is at step {frame.step}, the edge at {self._step}")
