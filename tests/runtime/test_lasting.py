"""A server that lasts: what goes wrong for one connection leaves room for the next."""

from __future__ import annotations

import errno
import itertools
import logging
import socket
import struct
import threading
from collections import deque

import pytest
from support.deployments import DIGEST, crossing_deployment, deployment_with_alone, served
from support.programs import observation
from support.proxy import wait_until

from vlacut.errors import PeerLost, PeerRefused, PeerUnable
from vlacut.runtime.cloud.admission import Admission
from vlacut.runtime.cloud.deployment import ready
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.edge.link import Line
from vlacut.runtime.edge.makers import Alone
from vlacut.runtime.edge.memory import Remembered
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.wire.handshake import answer
from vlacut.runtime.wire.protocol.envelope import sealed
from vlacut.runtime.wire.protocol.greeting import Greeting
from vlacut.runtime.wire.protocol.header import ERROR, Header

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset


def test_a_robot_that_hangs_up_before_it_hears_leaves_its_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program, plan, engines = crossing_deployment()
    admit = Admission._no_room
    gone = threading.Event()

    def admit_when_gone(self: Admission, greeting: Greeting, sock: socket.socket) -> str:
        assert gone.wait(10)
        return admit(self, greeting, sock)

    with served(plan, engines, most_robots=1) as server:
        with monkeypatch.context() as patch:
            patch.setattr(Admission, "_no_room", admit_when_gone)
            with socket.create_connection(server.address) as robot:
                robot.sendall(Greeting(0, DIGEST, bytes(16), 1, 0).pack())
                robot.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            gone.set()
            assert wait_until(lambda: server.counts.events["lost"] == 1)
        assert server.robots == 0
        with EdgeSession(plan, DIGEST, engines, server.address) as policy:
            policy.step(observation(program))


class _Listener:
    """One whose first connections cannot be accepted."""

    def __init__(self, real: socket.socket, failures: int) -> None:
        self._real = real
        self._failures = failures

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        self._failures -= 1
        if self._failures >= 0:
            raise OSError(errno.EMFILE, "Too many open files")
        return self._real.accept()

    def fileno(self) -> int:
        return self._real.fileno()

    def getsockname(self) -> tuple[str, int]:
        name: tuple[str, int] = self._real.getsockname()
        return name

    def close(self) -> None:
        self._real.close()


def test_a_connection_that_cannot_be_accepted_does_not_end_the_server(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, plan, engines = crossing_deployment()
    monkeypatch.setattr("vlacut.runtime.cloud.reception._REST_S", 0.01)
    server = Server([ready(plan, DIGEST, engines)])
    reception = server._reception
    reception._listener = _Listener(reception._listener, 2)  # type: ignore[assignment]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with EdgeSession(plan, DIGEST, engines, server.address) as policy:
            policy.step(observation(program))
    finally:
        server.shutdown()
        thread.join(10)
    assert caplog.text.count("cannot be accepted: Too many open files") == 2


def test_a_thread_that_cannot_be_had_is_one_robot_s(monkeypatch: pytest.MonkeyPatch) -> None:
    program, plan, engines = crossing_deployment()
    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if thread.name.startswith("127.0.0.1:"):
            raise RuntimeError("can't start new thread")
        start(thread)

    with served(plan, engines) as server:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refused)
            for _ in range(70):  # more than may be in the handshake at once
                with socket.create_connection(server.address) as robot:
                    robot.sendall(Greeting(0, DIGEST, bytes(16), 1, 0).pack())
                    assert robot.recv(1) == b""
        with EdgeSession(plan, DIGEST, engines, server.address) as policy:
            policy.step(observation(program))
        assert server.counts.events["refused"] == 70


def test_an_engine_that_fails_in_a_way_of_its_own_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever it raises, that robot is told on one line, and the thread ends in order."""
    program, plan, engines = crossing_deployment()

    class Broken:
        def run(self, inputs: object) -> dict[str, object]:
            raise RuntimeError("no such\nbuffer")

    name = plan.cloud_parts[0][-1].name
    with (
        caplog.at_level(logging.INFO, "vlacut.server"),
        served(plan, {**engines, name: Broken()}) as server,  # type: ignore[dict-item]
        EdgeSession(plan, DIGEST, engines, server.address) as policy,
        pytest.raises(PeerRefused, match="RuntimeError: no such buffer"),
    ):
        policy.step(observation(program))
    failed = [record for record in caplog.records if record.__dict__.get("event") == "failed"]
    assert len(failed) == 1
    assert "\n" not in failed[0].getMessage()


def test_what_a_peer_says_of_its_failure_is_one_line() -> None:
    """It may say anything: what is no print, or another line of a log, is left out."""
    program, plan, engines = crossing_deployment()
    said = b"out of memory\nvlacut serve: connected: nobody\x1b[2J"
    header = Header(ERROR, 0, 0, 0, 0, len(said))
    listening = socket.create_server(("127.0.0.1", 0))

    def fail() -> None:
        sock, _ = listening.accept()
        with sock:
            answer(sock, DIGEST, 5)
            sock.recv(1)
            sock.sendall(sealed(header) + said)
            while sock.recv(1 << 16):
                pass

    thread = threading.Thread(target=fail)
    thread.start()
    with (
        EdgeSession(plan, DIGEST, engines, listening.getsockname()) as policy,
        pytest.raises(PeerUnable) as failed,
    ):
        policy.step(observation(program))
    line = "the other side failed: out of memory vlacut serve: connected: nobody?[2J"
    assert str(failed.value) == line
    thread.join(10)
    listening.close()


def test_a_dial_that_fails_in_a_way_of_its_own_is_not_the_last() -> None:
    """A robot must not stay without its cloud, whatever went wrong once."""
    program, plan, engines = crossing_deployment()
    with (
        served(plan, engines) as server,
        EdgeSession(plan, DIGEST, engines, server.address, 5.0) as policy,
    ):
        link = policy._link
        assert link is not None
        assert link.line is not None
        dial, calls = link._dial, itertools.count()

        def broken_at_first() -> Line:
            if next(calls) < 2:
                raise RuntimeError("no thread, no memory, or a bug")
            return dial()

        link._dial = broken_at_first
        link.drop(link.line, PeerLost("a test"))
        policy.step(observation(program))
        assert next(calls) == 3


def test_a_server_that_is_closed_ends() -> None:
    _, plan, engines = crossing_deployment()
    server = Server([ready(plan, DIGEST, engines)])
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    server.close()
    thread.join(20)
    assert not thread.is_alive()
    server.shutdown()


def test_the_longest_run_may_be_forgotten_by_two_at_once() -> None:
    """In a hedged step the edge's run may end, and push it out, while it is being forgotten."""
    _, plan, engines = deployment_with_alone()
    alone = Alone(plan, engines, Remembered(plan, {}))

    class Pushed(deque[float]):
        def remove(self, value: float) -> None:
            self.append(0.001)  # as the other thread does
            super().remove(value)

    alone._took_s = Pushed([0.5, 0.001], maxlen=2)
    assert not alone.fits(0.1)
    assert alone.fits(0.1)
