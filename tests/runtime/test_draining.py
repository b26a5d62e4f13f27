"""A server that ends: it takes no new steps, and ends those that have begun."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading

import numpy as np
import pytest
from support.cutting import run_whole
from support.deployments import DIGEST, Held, crossing_deployment, served
from support.programs import observation
from support.proxy import wait_until

from vlacut.errors import DeadlineMissed, WireError
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.wire.connection import Connection
from vlacut.runtime.wire.protocol.greeting import Greeting, Status, unpack_greeting


@pytest.mark.parametrize("ahead", [False, True])
def test_a_robot_that_never_pauses_does_not_keep_the_server(
    monkeypatch: pytest.MonkeyPatch, ahead: bool
) -> None:
    """Every step it is told of is right, and the server ends long before it gives robots up; also
    where a frame of the next step is always there.
    """
    if ahead:
        monkeypatch.setattr(Connection, "begun", lambda _: True)
    program, plan, engines = crossing_deployment()
    observed, expected = observation(program), run_whole(program, observation(program))
    made: list[dict[str, np.ndarray]] = []

    def drive(policy: EdgeSession) -> None:
        try:
            while True:
                made.append(policy.step(observed))
        except WireError:
            policy.close()

    with served(plan, engines, timeout=30.0) as server:
        robots = [
            threading.Thread(
                target=drive, args=(EdgeSession(plan, DIGEST, engines, server.address, 1.0),)
            )
            for _ in range(2)
        ]
        for robot in robots:
            robot.start()
        assert wait_until(lambda: len(made) > 20)
        # `served` asks it to end, and waits for 10 s of the 30 that a robot may take
    for robot in robots:
        robot.join(20)
    assert server.counts.events["left"] == 2
    assert server.counts.steps >= len(made)
    for action in made:
        for name, array in expected.items():
            np.testing.assert_array_equal(action[name], array)


def test_a_robot_that_asks_while_the_server_ends_is_not_let_in() -> None:
    """Its connection was accepted before, and its greeting comes after, or comes to nobody."""
    _, plan, engines = crossing_deployment()
    with served(plan, engines) as server, socket.create_connection(server.address) as late:
        assert wait_until(lambda: len(server._reception._lobby) == 1)
        server.shutdown()
        with contextlib.suppress(ConnectionError):
            late.sendall(Greeting(0, DIGEST, bytes(16), 1, 0).pack())
            said = late.recv(80, socket.MSG_WAITALL)
            assert not said or unpack_greeting(said).status == Status.FULL
    assert server.counts.events["connected"] == 0


@pytest.mark.parametrize(("timeout", "says"), [(20.0, "no step was cut off"), (0.2, "1 steps did")])
def test_the_last_line_says_whether_steps_ended(
    caplog: pytest.LogCaptureFixture, timeout: float, says: str
) -> None:
    program, plan, engines = crossing_deployment()
    name = plan.cloud_parts[0][-1].name
    held = Held(engines[name])
    with caplog.at_level(logging.INFO, "vlacut.server"):
        with served(plan, {**engines, name: held}, timeout=timeout) as server:
            policy = EdgeSession(plan, DIGEST, engines, server.address, deadline=3.0)
            robot = threading.Thread(target=_step, args=(policy, observation(program)))
            robot.start()
            assert held.began.wait(10)
            server.shutdown()
            if timeout > 1:
                held.go.set()
        held.go.set()
        robot.join(40)
        policy.close()
    events = [record for record in caplog.records if hasattr(record, "event")]
    last = [record.getMessage() for record in events if record.__dict__["event"] == "stopped"]
    assert len(last) == 1
    assert says in last[0]


def _step(policy: EdgeSession, observed: dict[str, np.ndarray]) -> None:
    with contextlib.suppress(DeadlineMissed, WireError):
        policy.step(observed)
