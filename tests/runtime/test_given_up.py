"""Steps that the robot gave up while the cloud lagged behind: nothing is left of them."""

from __future__ import annotations

import socket
from typing import Any

import numpy as np
import pytest
from support.cutting import Reference
from support.deployments import (
    DIGEST,
    Held,
    crossing_deployment,
    initial_of,
    pool_deployment,
    served,
)
from support.programs import observation, random_stateful

from vlacut.hardware import Side
from vlacut.ir.program import Program
from vlacut.plans.plan import Plan
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.wire.connection import Connection
from vlacut.runtime.wire.layout import Layout
from vlacut.runtime.wire.protocol.envelope import checksum
from vlacut.runtime.wire.protocol.header import HEADER_BYTES, TENSORS, Header
from vlacut.runtime.wire.route import Route, Send


def running_ahead() -> tuple[Program, Plan, dict[str, Any], int]:
    """A variant whose robot sends several frames in a step, and waits for none before the next."""
    for seed in range(100):
        program = random_stateful(seed)
        plan, _ = pool_deployment(program, seed, make=lambda part, model: None)
        for variant in range(len(plan.variants)):
            first = Route(plan, Side.EDGE, variant, first=True)
            sent = [stop for stop in first.stops if isinstance(stop, Send)]
            if len(sent) > 2 and first.due and not first.awaited:
                return program, *pool_deployment(program, seed), variant
    raise AssertionError("no such deployment")


def frames_up(plan: Plan, step: int) -> list[bytes]:
    """What a robot sends in a step of the plan's first variant."""
    layout, frames = Layout(plan, Side.CLOUD), []
    for due in Route(plan, Side.CLOUD, 0).due:
        _, room = layout.room(*due)
        header = Header(TENSORS, *due, step, room.nbytes)
        payload = [np.full_like(array, 3) for array in room.tensors]
        data = b"".join(array.tobytes() for array in payload)
        frames.append(header.pack(checksum(header, payload)) + data)
    return frames


@pytest.mark.parametrize("whole", [True, False])
def test_what_came_of_a_step_given_up_is_never_taken_for_the_next(whole: bool) -> None:
    """Whether the frame by which it is given up has come as a whole, or its header alone."""
    plan = crossing_deployment()[1]
    mine, other = socket.socketpair()
    connection = Connection(mine, Layout(plan, Side.CLOUD), 5.0)
    old, (new, *_) = frames_up(plan, 4), frames_up(plan, 5)
    assert len(old) > 1
    with other:
        for frame in old:
            other.sendall(frame)
        assert connection.receive(4).step == 4
        connection.listen()
        other.sendall(new if whole else new[:HEADER_BYTES])
        assert connection.superseded(4)
        other.sendall(b"" if whole else new[HEADER_BYTES:])
        frame = connection.peek()
        assert frame is not None
        assert frame.step == 5
        assert connection.receiver.dropped == len(old) - 1
    connection.close()


def test_a_robot_that_runs_ahead_of_its_cloud_keeps_its_connection() -> None:
    """Steps that begin episodes give the one up in which the cloud still computes."""
    program, plan, engines, variant = running_ahead()
    part = next(part.name for part in plan.parts if part.side is Side.CLOUD)
    held, given, reference = Held(engines[part]), initial_of(program), Reference(program)
    with (
        served(plan, {**engines, part: held}, initial=given, timeout=20) as server,
        EdgeSession(plan, DIGEST, engines, server.address, 20, initial=given) as policy,
    ):
        for number in range(5):
            observed = observation(program, number)
            if number < 4:
                policy.reset()
                reference.reset()
            else:  # it reads what the cloud sends of the one before, once that is made
                assert held.began.wait(10)
                held.go.set()
            action = policy.step(observed, variant=variant)
            for name, array in reference.step(observed).items():
                np.testing.assert_array_equal(action[name], array)
            assert policy.last.retries == 0
        assert server.counts.abandoned >= 1
        assert dict(server.counts.events) == {"connected": 1}
