"""Attending: the thread of one robot, from its greeting to its end."""

from __future__ import annotations

import logging
import math
import socket
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from vlacut.errors import CodecError, WireError, one_line, told
from vlacut.hardware import Side
from vlacut.plans.plan import Part
from vlacut.runtime.cloud.deployment import Deployment
from vlacut.runtime.cloud.memory import RobotMemory
from vlacut.runtime.cloud.pace import Pace, SharedEngine
from vlacut.runtime.cloud.turns import Turns
from vlacut.runtime.engines import OpenedEngines, warm_up
from vlacut.runtime.interpreter import StepAbandoned, Walk
from vlacut.runtime.wire.burst import train_of
from vlacut.runtime.wire.connection import Connection
from vlacut.runtime.wire.layout import Layout
from vlacut.runtime.wire.protocol.header import FETCH, PROBE, STATE, Header
from vlacut.runtime.wire.receiver import PeerLeft
from vlacut.runtime.wire.route import Route

_PAUSE_S = 0.002  # after a step that was given up, lest a robot that floods keep the processor

_log = logging.getLogger("vlacut.server")


class Attendant:
    """Serves one robot the steps of its bundle.

    Args:
        deployment: its bundle, loaded.
        turns: engines are run in.
        memory: of the robot's state; None where the plan has none.
        stopping: whether the server is.
        note: told of what becomes of the robot: the event, and why.
        deadline_s: of the robot's steps; 0 if they have none.
    """

    def __init__(
        self,
        deployment: Deployment,
        turns: Turns,
        memory: RobotMemory | None,
        stopping: Callable[[], bool],
        note: Callable[[str, str], None],
        deadline_s: float = 0.0,
    ) -> None:
        self._served, self._turns, self._memory = deployment, turns, memory
        self._stopping, self._note = stopping, note
        self._deadline_s = deadline_s
        predicted = {part.name: part.seconds for part in deployment.plan.parts}
        self._pace = Pace(deployment, deployment.batches, predicted)

    def serve(self, sock: socket.socket, timeout: float, checked: bool) -> bool:
        """Serve it until it leaves or is lost; whether it may come back for its state.

        Args:
            sock: its connection, greeted.
            timeout: seconds without progress after which it counts as lost.
            checked: whether checksums cover tensors.

        Raises WireError if it breaks the protocol, or is lost.
        """
        served = self._served
        layout = Layout(served.plan, Side.CLOUD)
        connection = Connection(sock, layout, timeout, checked=checked)
        self._note("connected", "")
        route: Route | None = served.routes[0]
        assert served.engines is not None  # a bundle with robots is not unloaded
        try:
            with OpenedEngines(served.engines) as engines:
                layout.empty = engines.empty
                shared = {
                    name: SharedEngine(name, each, self._turns, self._pace)
                    for name, each in engines.items()
                }
                warm_up(self._on_devices(shared), shared, served.plan)
                walks = [Walk(each, shared) for each in served.routes]
                firsts = [Walk(each, shared) for each in served.firsts]
                last = False
                try:
                    while route is not None and not last:
                        last = self._stopping()  # who sends ahead has one more step, not all
                        route = self._step(connection, route, walks, firsts)
                finally:
                    self._turns.forget(self._pace.habit)
                    if self._memory is not None:
                        self._memory.release()
            self._note("left", "the server is stopping")
        except PeerLeft:
            self._note("left", "")
            return False
        except CodecError as error:
            self._note("failed", str(error))
            connection.send_error(str(error))
        except WireError:
            raise
        except Exception as error:  # whatever an engine raises is this robot's alone
            text = one_line(told(error))
            self._note("failed", text)
            _log.debug("where it failed", exc_info=True)
            connection.send_error(text)
        return True

    def _on_devices(self, engines: Mapping[str, SharedEngine]) -> list[Part]:
        """The parts whose engines were opened for this robot alone: none of theirs has run."""
        mine = (part for part in self._served.plan.parts if part.side is Side.CLOUD)
        return [part for part in mine if engines[part.name].take is not None]

    def _step(
        self,
        connection: Connection,
        before: Route,
        walks: Sequence[Walk],
        firsts: Sequence[Walk],
    ) -> Route | None:
        """Serve the next step; its route, None if the server is stopping."""
        memory = self._memory
        due = before.due[0] if before.due else None
        frame = None
        while frame is None:
            if self._stopping() and not connection.begun():
                return None
            frame = connection.peek(due)
        if frame.kind == PROBE:
            _answer_probe(connection)
            return before
        if memory is not None and frame.kind in (STATE, FETCH):
            _move_state(connection, memory)
            return before
        variant, step, base = frame.place[0], frame.step, frame.base
        route, walk, before_s = self._served.routes[variant], walks[variant], self._turns.mine_s
        done = True
        first = memory is not None and not base
        runs = self._served.firsts[variant] if first else route
        self._pace.begin(self._due_s(variant, frame.arrived_ns, first), runs.computes)
        try:
            if memory is None:
                walk.run({}, (), step, connection)
            else:
                walk = walk if base else firsts[variant]
                walk.run({}, (), step, connection, base=base, state=memory.base(base))
                memory.leave(step, base, walk.kept)
        except StepAbandoned:
            done = False
            time.sleep(_PAUSE_S)
        self._served.note_step(walk.tally, done, self._turns.mine_s - before_s)
        return route

    def _due_s(self, variant: int, arrived_ns: int, first: bool) -> float:
        """When the cloud's part of a step must be done, as far as the cloud can know: what runs
        elsewhere, and the link, take what the plan predicts; with what runs on reset, in the first
        step of an episode.
        """
        if not self._deadline_s:
            return math.inf
        found = self._served.plan.variants[variant]
        prices = (found.price, found.first_price if first else None)
        elsewhere_s = sum(one.total_s - one.cloud_s for one in prices if one is not None)
        gone_s = (time.perf_counter_ns() - arrived_ns) * 1e-9
        left_s = self._deadline_s - elsewhere_s - gone_s
        return time.monotonic() + left_s


def _move_state(connection: Connection, memory: RobotMemory) -> None:
    """Take in a tensor of state, or send one that the robot asks for: the frame that is next."""
    frame = connection.receive()
    index = frame.place[1]
    if frame.kind == STATE:
        memory.put(frame.base, index, frame.tensors[0])
        return
    array = memory.get(frame.base, index)
    connection.send(Header(STATE, 0, index, 0, frame.step, array.nbytes, frame.base), [array])
    connection.flush()


def _answer_probe(connection: Connection) -> None:
    """Say how the probe came in: the frame that is next."""
    frame = connection.receive()
    train = train_of([heard.burst for heard in connection.take_heard()])
    now = time.perf_counter_ns()
    times = np.array([1, frame.arrived_ns, now, frame.burst.first_ns, *train, 0], ">u8")
    connection.send(Header(PROBE, 0, 0, 0, frame.step, times.nbytes), [times])
