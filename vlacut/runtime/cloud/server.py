"""The cloud's side of a deployment: one process, many robots, a thread and a connection each.

What one robot does harms no other: a thread serves it alone, what it may send is bounded by the
plan, engines are shared in turns, and a robot that sends faster than it is served is held back by
its own connection. Events go to the logger `vlacut.server`, with `event` and `robot` as extras:
where it connects from, after the name in its certificate where it has one.
"""

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType

import numpy as np

from vlacut.backend import Engine
from vlacut.errors import BackendError, CodecError, InputError, PeerLost, WireError, one_line
from vlacut.hardware import Side
from vlacut.plans.memory import Memory
from vlacut.plans.plan import Part, Plan
from vlacut.plans.state import initial_state
from vlacut.runtime.cloud.memory import RobotMemory
from vlacut.runtime.cloud.reception import Reception
from vlacut.runtime.cloud.refusals import Refusals
from vlacut.runtime.cloud.robots import Counts, Robots
from vlacut.runtime.cloud.stranger import Stranger
from vlacut.runtime.cloud.turns import SharedEngine, Turns
from vlacut.runtime.engines import OpenedEngines, warm_up
from vlacut.runtime.interpreter import StepAbandoned, Walk
from vlacut.runtime.wire.burst import train_of
from vlacut.runtime.wire.connection import Connection
from vlacut.runtime.wire.handshake import answer_to
from vlacut.runtime.wire.layout import Layout
from vlacut.runtime.wire.pictures import require_libraries
from vlacut.runtime.wire.protocol import CHECKED, FETCH, PROBE, STATE, Greeting, Header
from vlacut.runtime.wire.receiver import PeerLeft
from vlacut.runtime.wire.route import Route, first_routes_of, routes_of
from vlacut.runtime.wire.security import peer_name, require_authentication
from vlacut.runtime.wire.sockets import set_options

_HANDSHAKE_S = 5.0
_PAUSE_S = 0.002  # after a step that was given up, lest a robot that floods keep the processor

_log = logging.getLogger("vlacut.server")


class Server:
    """Serves the cloud parts of one bundle.

    Args:
        plan: of the bundle.
        digest: of the bundle.
        engines: by name of part, all cloud parts; run one at a time.
        host, port: where to listen; port 0 takes a free one, see `address`.
        tls: of `vlacut.runtime.wire.security.cloud_context`.
        insecure: allow another host than loopback without `tls`.
        timeout: seconds without progress within a step after which a robot counts as lost.
        most_robots: at a time; more are refused, see `Robots.admit`.
        memory: bytes of this machine; the plan's device has its own figure.
        initial: state in the first step of an episode, by key, where it is not zeros.

    Raises InputError if the address cannot be had, peers there would not be authenticated, no robot
    fits the memory beside the engines, or a codec of the plan is not installed.
    """

    def __init__(
        self,
        plan: Plan,
        digest: bytes,
        engines: Mapping[str, Engine],
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        tls: ssl.SSLContext | None = None,
        insecure: bool = False,
        timeout: float = 10.0,
        most_robots: int = 64,
        memory: int | None = None,
        initial: Mapping[str, np.ndarray] = MappingProxyType({}),
    ) -> None:
        require_authentication(host, tls, insecure)
        require_libraries(plan)
        self.memory = plan.memory if memory is None else replace(plan.memory, device=memory)
        _check_memory(plan, self.memory)
        self._plan = plan
        self._routes = routes_of(plan, Side.CLOUD)
        self._firsts = first_routes_of(plan, Side.CLOUD)
        first = initial_state(plan.states, plan.spec, initial)
        self._digest = digest
        self._turns = Turns()
        self._engines = engines
        self._timeout = timeout
        self._most_robots = most_robots
        remembering = partial(RobotMemory, plan, first) if plan.states else None
        self._robots = Robots(most_robots, self.memory, remembering)
        self._refusals = Refusals(self._say)
        self._reception = Reception(host, port, tls, digest, self._serve, self._refuse)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port it listens on."""
        return self._reception.address

    @property
    def robots(self) -> int:
        """How many it serves now."""
        return len(self._robots)

    @property
    def most_robots(self) -> int:
        """How many it serves at a time, if their deadlines leave the engines time."""
        fit = self.memory.robots
        return self._most_robots if fit is None else min(self._most_robots, fit)

    @property
    def counts(self) -> Counts:
        """What it has done so far."""
        return self._robots.counts

    @property
    def draining(self) -> bool:
        """Whether `shutdown` was called: it takes no robots, and ends when the steps do."""
        return self._reception.stopping

    @property
    def stuck_s(self) -> float:
        """For how long an engine has run, if that is longer than robots wait; else 0.

        It holds up all robots, and cannot be interrupted: the process has to be started anew.
        """
        lasts = self._turns.lasts_s
        return lasts if lasts > self._timeout else 0.0

    def serve_forever(self) -> None:
        """Serve until `shutdown`; then let steps that have begun end, for at most `timeout`."""
        try:
            self._reception.receive_all()
        finally:
            self.close()
            self._drain()

    def _drain(self) -> None:
        _log.info("draining: %d robots", self.robots, extra={"event": "draining"})
        self._reception.wait(self._timeout)
        late = self.robots
        self._robots.hang_up()
        how = f"{late} steps did not end in {self._timeout:g} s" if late else "no step was cut off"
        level = logging.WARNING if late else logging.INFO
        _log.log(level, "stopped: %s", how, extra={"event": "stopped"})

    def close(self) -> None:
        """Listen no more; for who does not call `serve_forever`."""
        self._reception.close()

    def shutdown(self) -> None:
        """Ask `serve_forever` to return; safe from a signal handler or another thread."""
        self._reception.stop()

    def _serve(self, stranger: Stranger) -> None:
        """One robot, from handshake to end; whatever it does, the others go on."""
        peer = stranger.peer
        try:
            sock, greeting, memory = self._admit(stranger)
            self._reception.know(peer)
            name = peer_name(sock)
            peer = f"{name}@{peer}" if name else peer
            lost = True
            try:
                lost = self._serve_robot(sock, peer, bool(greeting.flags & CHECKED), memory)
            finally:
                self._dismiss(sock, lost)
        except PeerLost as error:
            self._note("lost", peer, str(error))
        except WireError as error:
            self._note("refused", peer, str(error))

    def _admit(self, stranger: Stranger) -> tuple[socket.socket, Greeting, RobotMemory | None]:
        """The connection of a robot that may be served, what it said, and its memory."""
        sock = stranger.sock
        try:
            set_options(sock, self._timeout)
            sock.settimeout(_HANDSHAKE_S)
        except OSError as error:
            sock.close()
            raise PeerLost(f"it hung up at once: {error.strerror}") from error
        memory: RobotMemory | None = None

        def told(greeting: Greeting) -> bytes:
            nonlocal memory
            memory = self._robots.recall(greeting.token)
            return memory.told() if memory else b""

        try:
            greeting = answer_to(
                *(sock, stranger.greeting, stranger.arrived_ns, self._digest),
                lambda found: self._no_room(found, sock),
                told,
            )
        except BaseException:  # also of a robot that had its room, and hung up before it heard
            if memory is not None:
                memory.release()
            self._dismiss(sock, True)
            raise
        return sock, greeting, memory

    def _dismiss(self, sock: socket.socket, lost: bool) -> None:
        self._robots.leave(sock, lost)
        sock.close()

    def _no_room(self, greeting: Greeting, sock: socket.socket) -> str:
        """Why a robot is not let in; empty if it is."""
        if self.draining:
            return "the server is stopping"
        return self._robots.admit(greeting, sock, self._robots.step_s(), peer_name(sock))

    def _serve_robot(
        self, sock: socket.socket, peer: str, checked: bool, memory: RobotMemory | None
    ) -> bool:
        """Serve a robot until it leaves or is lost; whether it may come back for its state."""
        layout = Layout(self._plan, Side.CLOUD)
        connection = Connection(sock, layout, self._timeout, checked=checked)
        self._note("connected", peer, "")
        route: Route | None = self._routes[0]
        try:
            with OpenedEngines(self._engines) as engines:
                layout.empty = engines.empty
                shared = {name: SharedEngine(each, self._turns) for name, each in engines.items()}
                warm_up(self._on_devices(shared), shared, self._plan)
                walks = [Walk(each, shared) for each in self._routes]
                firsts = [Walk(each, shared) for each in self._firsts]
                last = False
                try:
                    while route is not None and not last:
                        last = self.draining  # who sends ahead has one more step, not all
                        route = self._step(connection, route, walks, firsts, memory)
                finally:
                    if memory is not None:
                        memory.release()
            self._note("left", peer, "the server is stopping")
        except PeerLeft:
            self._note("left", peer, "")
            return False
        except CodecError as error:
            self._note("failed", peer, str(error))
            connection.send_error(str(error))
        except WireError:
            raise
        except Exception as error:  # whatever an engine raises is this robot's alone
            known = isinstance(error, BackendError)
            text = one_line(error if known else f"{type(error).__name__}: {error}")
            self._note("failed", peer, text)
            _log.debug("where it failed", exc_info=True)
            connection.send_error(text)
        return True

    def _on_devices(self, engines: Mapping[str, SharedEngine]) -> list[Part]:
        """The parts whose engines were opened for this robot alone: none of theirs has run."""
        mine = (part for part in self._plan.parts if part.side is Side.CLOUD)
        return [part for part in mine if engines[part.name].take is not None]

    def _step(
        self,
        connection: Connection,
        before: Route,
        walks: Sequence[Walk],
        firsts: Sequence[Walk],
        memory: RobotMemory | None,
    ) -> Route | None:
        """Serve the next step; its route, None if the server is stopping."""
        due = before.due[0] if before.due else None
        frame = None
        while frame is None:
            if self.draining and not connection.begun():
                return None
            frame = connection.peek(due)
        if frame.kind == PROBE:
            _answer_probe(connection)
            return before
        if memory is not None and frame.kind in (STATE, FETCH):
            _move_state(connection, memory)
            return before
        variant, step, base = frame.place[0], frame.step, frame.base
        route, walk, before_s = self._routes[variant], walks[variant], self._turns.mine_s
        done = True
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
        self._robots.note_step(walk.tally, done, self._turns.mine_s - before_s)
        return route

    def _refuse(self, event: str, peer: str, why: str) -> None:
        """Count a connection that was not taken, and log it unless it is one of a flood."""
        self._robots.count(event)
        self._refusals.note(event, peer, why)

    def _note(self, event: str, peer: str, text: str) -> None:
        self._robots.count(event)
        self._say(event, peer, text)

    def _say(self, event: str, peer: str, text: str) -> None:
        level = logging.INFO if event in ("connected", "left") else logging.WARNING
        line = f"{event}: {peer}" + (f": {text}" if text else "")
        _log.log(level, line, extra={"event": event, "robot": peer})


def _check_memory(plan: Plan, memory: Memory) -> None:
    if memory.robots == 0:
        raise InputError(
            f"the engines take {memory.weights / 1e9:.4g} GB and a robot {memory.robot / 1e9:.4g} "
            f"GB; this {plan.cloud} has {memory.device / 1e9:.4g} GB: compile with a lower "
            f"--cloud-budget, or give what it has with --memory"
        )


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
