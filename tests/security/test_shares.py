"""What one robot with keys may take of a server, whatever it claims."""

from __future__ import annotations

import itertools
import os
import socket
from pathlib import Path

import pytest
from support.deployments import DIGEST, crossing_deployment, served
from support.programs import observation

from vlacut.errors import PeerRefused
from vlacut.runtime.cloud.deployment import ready
from vlacut.runtime.cloud.hosting import Hosting
from vlacut.runtime.cloud.robots import Robots
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.tally import Tally
from vlacut.runtime.wire.protocol.greeting import Greeting
from vlacut.runtime.wire.security import cloud_context, edge_context


def test_no_robot_with_keys_keeps_others_out_by_what_it_claims() -> None:
    """Its deadlines count for half of the engines at most, and its sessions for half of the room;
    what steps take it cannot make longer by giving them up.
    """
    _, plan, engines = crossing_deployment()
    hosting = Hosting(0)
    bundle = hosting.add(ready(plan, DIGEST, engines))
    robots, clock, ends = Robots(6, hosting), itertools.count(), []

    def asks(name: str, deadline_s: float) -> str:
        ends.append(socket.socketpair())
        greeting = Greeting(0, DIGEST, os.urandom(16), next(clock), round(deadline_s * 1e9))
        return robots.admit(greeting, ends[-1][0], bundle, name)

    bundle.note_step(Tally(), True, 0.04)
    bundle.note_step(Tally(), False, 1000.0)
    assert bundle.step_s == pytest.approx(0.04)
    assert not asks("greedy", 1e-9)
    assert not asks("greedy", 0.04)
    assert not asks("honest", 0.1)
    assert asks("another", 0.1) == "its engines would take 1.30 s of every second"
    assert not asks("another", 0.4)
    assert not asks("greedy", 1e-9)
    assert asks("greedy", 0.0) == "greedy has 3 sessions, of the 6 that there is room for"
    assert not asks("third", 0.0)
    assert asks("fourth", 0.0) == "it serves 6 robots at a time"
    for pair in ends:
        for sock in pair:
            sock.close()


def test_a_robot_is_bounded_by_the_name_in_its_certificate(keys: Path) -> None:
    program, plan, engines = crossing_deployment()
    tls, cloud = edge_context(keys / "robot"), cloud_context(keys / "cloud")
    with (
        served(plan, engines, tls=cloud, most_robots=3) as server,
        EdgeSession(plan, DIGEST, engines, server.address, tls=tls) as policy,
    ):
        with pytest.raises(PeerRefused, match="the cloud is full"):
            EdgeSession(plan, DIGEST, engines, server.address, tls=tls)
        policy.step(observation(program))
