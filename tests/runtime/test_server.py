"""One server, many robots: who is let in, who waits for whom, who harms nobody, and how it ends."""

from __future__ import annotations

import itertools
import logging
import math
import socket
import threading
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from support.cutting import run_whole
from support.deployments import DIGEST, Held, crossing_deployment, served
from support.programs import observation
from support.proxy import Proxy, wait_until

from vlacut.backend import Engine
from vlacut.errors import BackendError, InputError, PeerRefused
from vlacut.hardware import Side
from vlacut.plans.plan import Plan
from vlacut.runtime.cloud.asked import Asked
from vlacut.runtime.cloud.deployment import ready
from vlacut.runtime.cloud.footprint import cloud_memory
from vlacut.runtime.cloud.hosting import Hosting
from vlacut.runtime.cloud.robots import Robots
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.cloud.turns import Turns
from vlacut.runtime.edge.report import Source
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.tally import Tally
from vlacut.runtime.wire.protocol.greeting import Greeting, Status, unpack_greeting


class Failing:
    """An engine that fails while `broken`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.broken = True

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self.broken:
            raise BackendError("part x: out of memory")
        return self._engine.run(inputs)


def last_cloud_part(plan: Plan) -> str:
    return plan.variant_parts(plan.variants[0], Side.CLOUD)[-1].name


def test_a_late_result_is_dropped_by_its_number() -> None:
    program, plan, engines = crossing_deployment()
    held = Held(engines[last_cloud_part(plan)])
    observed = [observation(program, seed) for seed in range(2)]
    with (
        served(plan, {**engines, last_cloud_part(plan): held}, timeout=20.0) as server,
        EdgeSession(plan, DIGEST, engines, server.address, deadline=3.0) as policy,
    ):
        held.go.set()
        first = policy.step(observed[0])
        held.go.clear()
        held.began.clear()
        second = policy.step(observed[1])
        assert policy.last.source is Source.STALE
        for name, array in first.items():
            np.testing.assert_array_equal(second[name], array)
        assert held.began.wait(5)
        held.go.set()  # the result of the second step comes during the third
        third = policy.step(observed[0])
        assert policy.last.source is Source.CHOSEN
        assert policy.last.step == 2
        for name, array in run_whole(program, observed[0]).items():
            np.testing.assert_array_equal(third[name], array)
        assert server.robots == 1  # on the connection it had


def test_a_failed_engine_ends_its_session_alone() -> None:
    program, plan, engines = crossing_deployment()
    failing = Failing(engines[last_cloud_part(plan)])
    observed = observation(program)
    with (
        served(plan, {**engines, last_cloud_part(plan): failing}) as server,
        EdgeSession(plan, DIGEST, engines, server.address) as unlucky,
        EdgeSession(plan, DIGEST, engines, server.address) as other,
    ):
        with pytest.raises(PeerRefused, match="part x: out of memory"):
            unlucky.step(observed)
        failing.broken = False
        other.step(observed)
        unlucky.step(observed)  # on a new connection
        assert server.counts.events["failed"] == 1


def test_a_full_server_says_so_and_takes_the_next_when_one_leaves() -> None:
    program, plan, engines = crossing_deployment()
    observed = observation(program)
    with served(plan, engines, most_robots=1) as server:
        with EdgeSession(plan, DIGEST, engines, server.address) as first:
            first.step(observed)
            with pytest.raises(PeerRefused, match="the cloud is full"):
                EdgeSession(plan, DIGEST, engines, server.address)
            first.step(observed)
        assert wait_until(lambda: server.robots == 0)
        with EdgeSession(plan, DIGEST, engines, server.address) as second:
            second.step(observed)


def test_a_robot_that_comes_back_replaces_its_half_open_session() -> None:
    """A proxy that goes silent on the cloud's side leaves a session that cannot know."""
    program, plan, engines = crossing_deployment()
    observed = observation(program)
    with (
        served(plan, engines, most_robots=1) as server,
        Proxy(server.address) as proxy,
        EdgeSession(plan, DIGEST, engines, proxy.address) as policy,
    ):
        policy.step(observed)
        line = policy._link.get(0)  # type: ignore[union-attr]
        policy._link.drop(line, PeerRefused("a test"))  # type: ignore[union-attr]
        policy.step(observed)
        assert server.robots == 1


def test_a_greeting_that_comes_late_ends_no_newer_session() -> None:
    """Connections overtake each other: the older one's greeting is held up on the way."""
    program, plan, engines = crossing_deployment()
    with (
        served(plan, engines) as server,
        EdgeSession(plan, DIGEST, engines, server.address) as policy,
    ):
        policy.step(observation(program))
        token = next(iter(server._robots._robots))
        with socket.create_connection(server.address) as late:
            late.sendall(Greeting(0, DIGEST, token, 1, 0).pack())
            reply = unpack_greeting(late.recv(80, socket.MSG_WAITALL))
            assert reply.status == Status.FULL
        line = policy._link.get(0)  # type: ignore[union-attr]
        policy.step(observation(program))
        assert policy._link.get(0) is line  # type: ignore[union-attr]
        assert server.counts.events["replaced"] == 0


def test_the_server_is_restarted_and_the_robot_goes_on() -> None:
    program, plan, engines = crossing_deployment()
    observed, expected = observation(program), run_whole(program, observation(program))
    with Proxy(("127.0.0.1", 9)) as proxy:
        with served(plan, engines) as server:
            proxy.target = server.address
            policy = EdgeSession(plan, DIGEST, engines, proxy.address)
            policy.step(observed)
        proxy.hang_up()
        with served(plan, engines) as server:
            proxy.target = server.address
            action = policy.step(observed)
            for name, array in expected.items():
                np.testing.assert_array_equal(action[name], array)
            policy.close()


def test_admission_by_time() -> None:
    """Two robots at 10 Hz fit 40 ms a step; a third does not, unless it was there before."""
    hosting = Hosting(0)
    robots, clock = Robots(10, hosting), itertools.count()
    ends = [socket.socketpair() for _ in range(4)]
    _, plan, engines = crossing_deployment()
    served = hosting.add(ready(plan, DIGEST, engines))
    served.note_step(Tally(), done=True)

    def asks(number: int, deadline_s: float, step_s: float = 0.04, robots: Robots = robots) -> bool:
        served._counts.engine_s = step_s
        token = bytes([number]) * 16
        greeting = Greeting(0, DIGEST, token, next(clock), round(deadline_s * 1e9))
        return not robots.admit(greeting, ends[number][0], served)

    assert asks(0, 0.1)
    assert asks(1, 0.1)
    assert not asks(2, 0.1)
    assert asks(2, 0.2)
    assert asks(3, 0)  # without a deadline it can wait
    assert asks(0, 0.1)  # it was there before
    assert len(robots) == 4
    robots.leave(ends[1][1])  # of no session
    assert len(robots) == 4
    robots.leave(ends[1][0])
    assert len(robots) == 3
    assert asks(0, 1e-9, 9.0, Robots(1, hosting))
    for pair in ends:
        for sock in pair:
            sock.close()


def test_admission_by_memory(caplog: pytest.LogCaptureFixture) -> None:
    """Two robots fit beside the engines; a third does once one has left; no robot is no server."""
    program, plan, engines = crossing_deployment()
    weights = {name: 1000 for part in plan.parts for name in part.weights}
    memory = cloud_memory(plan, 0, weights)
    made = {key for part in plan.cloud_parts[0] for key in part.outputs}
    step = sum(plan.spec[key].nbytes for key in made)
    assert memory.robot == plan.variants[0].price.bytes_up + step
    assert memory.weights == 1000 * len(
        {name for part in plan.cloud_parts[0] for name in part.weights}
    )
    plan = replace(plan, memory=replace(memory, device=memory.weights + 3 * memory.robot - 1))
    with served(plan, engines) as server:
        assert server.most_robots == 2
        with EdgeSession(plan, DIGEST, engines, server.address):
            with (
                EdgeSession(plan, DIGEST, engines, server.address),
                pytest.raises(PeerRefused, match="the cloud is full"),
            ):
                EdgeSession(plan, DIGEST, engines, server.address)
            assert wait_until(lambda: server.robots == 1)
            assert wait_until(lambda: "memory holds 2 robots beside the engines" in caplog.text)
            with EdgeSession(plan, DIGEST, engines, server.address) as policy:
                policy.step(observation(program))
    with pytest.raises(InputError, match="compile with a lower --cloud-budget"):
        Server([ready(plan, DIGEST, engines)], memory=memory.weights + memory.robot - 1)
    with served(plan, engines, memory=10**12, most_robots=5) as server:
        assert server.most_robots == 5


def test_turns_go_in_the_order_of_asking() -> None:
    turns, order, threads = Turns(), [], []
    going = threading.Event()

    class Noting:
        def __init__(self, number: int) -> None:
            self.number = number

        def run(self, inputs: object) -> dict[str, np.ndarray]:
            assert going.wait(30)
            order.append(self.number)
            return {}

    def ask(number: int) -> None:
        turns.run(Asked(Noting(number), {}, math.inf, 0.0))

    for number in range(8):
        threads.append(threading.Thread(target=ask, args=(number,)))
        threads[-1].start()
        assert wait_until(lambda asked=number: turns.lasts_s and len(turns._waiting) == asked)
    going.set()
    for thread in threads:
        thread.join()
    assert order == list(range(8))


def test_shutdown_lets_a_step_that_has_begun_end() -> None:
    program, plan, engines = crossing_deployment()
    held = Held(engines[last_cloud_part(plan)])
    made: list[dict[str, np.ndarray]] = []
    with served(plan, {**engines, last_cloud_part(plan): held}) as server:
        policy = EdgeSession(plan, DIGEST, engines, server.address)
        robot = threading.Thread(target=lambda: made.append(policy.step(observation(program))))
        robot.start()
        assert held.began.wait(10)
        server.shutdown()
        assert server.draining
        held.go.set()
        robot.join(10)
        policy.close()
    for name, array in run_whole(program, observation(program)).items():
        np.testing.assert_array_equal(made[0][name], array)


def test_events_are_logged_with_the_robot(caplog: pytest.LogCaptureFixture) -> None:
    program, plan, engines = crossing_deployment()
    with caplog.at_level(logging.INFO, "vlacut.server"), served(plan, engines) as server:
        with EdgeSession(plan, DIGEST, engines, server.address) as policy:
            policy.step(observation(program))
        assert wait_until(lambda: server.counts.events["left"] == 1)
    events = [record.__dict__["event"] for record in caplog.records]
    assert events == ["connected", "left", "draining", "stopped"]
    robots = {record.__dict__["robot"] for record in caplog.records[:2]}
    assert len(robots) == 1
    assert "" not in robots
    counts = server.counts
    assert counts.steps == 1
    assert counts.received == plan.variants[0].price.bytes_up
    assert set(counts.part_s) == {part.name for part in plan.parts if part.side is Side.CLOUD}


def test_the_clock_offset_is_what_it_is() -> None:
    """Both sides are on one clock here: the offset is 0 to within the error it claims."""
    program, plan, engines = crossing_deployment()
    with (
        served(plan, engines) as server,
        EdgeSession(plan, DIGEST, engines, server.address) as policy,
    ):
        for _ in range(5):
            policy.step(observation(program))
        report = policy.last
    assert abs(report.made.tally.clock_ns) <= report.made.tally.clock_error_ns
    assert report.began_ns <= min(span.start_ns for span in report.spans["edge"])
    crossings = len(report.spans["uplink"]), len(report.spans["downlink"])
    assert min(crossings) > 0
    assert sum(crossings) <= report.frames
    assert {span.name for span in report.spans["cloud"]} == set(report.cloud_s)
    slack = report.made.tally.clock_error_ns + abs(report.made.tally.clock_ns)
    for spans in report.spans.values():
        for span in spans:
            assert span.end_ns >= span.start_ns - 2 * slack
            assert report.began_ns - slack <= span.start_ns
            assert span.end_ns <= report.returned_ns + slack
