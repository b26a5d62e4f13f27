"""A server that ends: it takes no new steps, and ends those that have begun."""

from __future__ import annotations

import socket
import threading

import numpy as np
from deployments import DIGEST, crossing_deployment, served
from programs import observation
from proxy import wait_until
from test_split import run_whole

from vlacut.errors import WireError
from vlacut.runtime.session import EdgeSession
from vlacut.runtime.wire import Greeting, Status, unpack_greeting


def test_a_robot_that_never_pauses_does_not_keep_the_server() -> None:
    """Every step it is told of is right, and the server ends long before it gives robots up."""
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
    """Its connection was accepted before, and its greeting comes after."""
    _, plan, engines = crossing_deployment()
    with served(plan, engines) as server, socket.create_connection(server.address) as late:
        assert wait_until(lambda: bool(server._threads))
        server.shutdown()
        late.sendall(Greeting(0, DIGEST, bytes(16), 1, 0).pack())
        assert unpack_greeting(late.recv(80, socket.MSG_WAITALL)).status == Status.FULL
