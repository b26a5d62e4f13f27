"""The control loop with a real session: ticks go on at rate whatever becomes of the cloud."""

from __future__ import annotations

import ast
import itertools
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from support.deployments import DIGEST, Held, crossing_deployment, deployment_with_alone, served
from support.programs import observation
from support.proxy import DOWN, UP, Fault, Proxy, wait_until

import vlacut.control
from vlacut import ControlLoop
from vlacut.control.controllers.simple import WhenEmpty
from vlacut.control.report import CommandReport
from vlacut.control.situation import Decision, Request, Situation
from vlacut.errors import InputError, ObservationError
from vlacut.runtime.edge.report import Source
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.network.selectors import Always

CHUNK = "action,axis=1"  # the random programs' outputs are [1, 8]: eight commands of a number
RATE = 50
PERIOD_S = 1 / RATE


def drive(
    loop: ControlLoop, program: object, ticks: int, period_s: float = PERIOD_S
) -> tuple[list[CommandReport], float]:
    """Ticks at rate; their reports, and the longest that one took."""
    reports, longest = [], 0.0
    due = time.perf_counter()
    for number in range(ticks):
        time.sleep(max(0.0, due - time.perf_counter()))
        due += period_s
        observed = observation(program, number)  # type: ignore[arg-type]
        began = time.perf_counter()
        loop.tick(observed)
        longest = max(longest, time.perf_counter() - began)
        reports.append(loop.last)
    return reports, longest


def chunk_of(plan: object) -> str:
    return f"{next(iter(plan.outputs))},axis=1"  # type: ignore[attr-defined]


def ages_are_true(reports: list[CommandReport]) -> None:
    """No command is younger than the observation that its inference was asked on."""
    captured = {one.asked: one.at_ns for one in reports if one.asked is not None}
    for one in reports:
        if one.inference in captured:
            assert one.at_ns - one.captured_ns >= one.at_ns - captured[one.inference]


def test_commands_come_from_the_policy_s_own_action() -> None:
    program, plan, engines = crossing_deployment()
    with (
        served(plan, engines) as server,
        EdgeSession(plan, DIGEST, engines, server.address) as policy,
    ):
        expected = policy.step(observation(program, 0))
        with ControlLoop(policy, chunk_of(plan), RATE, executor="sync") as loop:
            assert loop.tick(observation(program, 0)) is None
            assert wait_until(lambda: loop.tick(observation(program, 1)) is not None)
            first = loop.last
            assert first.inference == 0
            assert first.route is not None
            assert (first.route.route, first.route.variant) == ("cut", "chosen")
            assert first.step is not None
            assert first.step.source is Source.CHOSEN
            whole = next(iter(expected.values())).reshape(-1)
            np.testing.assert_array_equal(first.command, whole[first.index : first.index + 1])


def test_a_first_chunk_can_be_waited_for() -> None:
    program, plan, engines = crossing_deployment()
    with (
        served(plan, engines) as server,
        EdgeSession(plan, DIGEST, engines, server.address) as policy,
        ControlLoop(policy, chunk_of(plan), RATE) as loop,
    ):
        loop.prime(observation(program, 0))
        assert loop.tick(observation(program, 0)) is not None
        assert loop.last.inference == 0
        assert loop.last.age_s > 0


def test_no_tick_waits_for_an_inference() -> None:
    program, plan, engines = crossing_deployment()
    held = {name: Held(engine) for name, engine in engines.items()}
    with (
        served(plan, held) as server,
        EdgeSession(plan, DIGEST, held, server.address) as policy,
        ControlLoop(policy, chunk_of(plan), RATE) as loop,
    ):
        reports, longest = drive(loop, program, 20)
        assert longest < 0.1  # the engine would take twenty seconds
        assert all(one.command is None for one in reports)
        assert [one.asked for one in reports].count(None) == 19
        for engine in held.values():
            engine.go.set()
        assert wait_until(lambda: loop.tick(observation(program)) is not None)


def test_a_chunk_that_is_over_too_soon_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    program, plan, engines = crossing_deployment()
    held = {name: Held(engine) for name, engine in engines.items()}
    for engine in held.values():
        engine.go.set()
    with (
        served(plan, held) as server,
        EdgeSession(plan, DIGEST, held, server.address) as policy,
        ControlLoop(policy, chunk_of(plan), 10) as loop,
    ):
        loop.prime(observation(program, 0))
        for engine in held.values():
            engine.go.clear()
        reports, _ = drive(loop, program, 12, 0.1)
        for engine in held.values():
            engine.go.set()
    assert reports[0].command is not None
    assert reports[-1].starved
    assert "its 0.8 s have to be two inferences" in caplog.text


def test_what_is_wrong_with_an_observation_is_said_at_once() -> None:
    program, plan, engines = crossing_deployment()
    with (
        served(plan, engines) as server,
        EdgeSession(plan, DIGEST, engines, server.address) as policy,
    ):
        for options, said in (
            ({"rate": 0}, "above 0"),
            ({"chunk": "acton"}, "has no output"),
            ({"controller": "rapit"}, "no controller is called"),
            ({"executor": "asink"}, "did you mean"),
            ({"playing": "alined"}, "did you mean"),
            ({"starve": "hol"}, "did you mean"),
            ({"controller": "periodic", "seconds": 3}, "controller periodic"),
            ({"entropy": "none"}, "has no output"),
        ):
            given = {"chunk": chunk_of(plan), "rate": RATE, **options}
            with pytest.raises(InputError, match=said):
                ControlLoop(policy, **given)  # type: ignore[arg-type]
        with ControlLoop(policy, chunk_of(plan), RATE) as loop:
            with pytest.raises(InputError, match="no tick yet"):
                _ = loop.last
            with pytest.raises(ObservationError, match="missing"):
                loop.tick({})
            with pytest.raises(ObservationError, match="dtype"):
                loop.tick({k: v.astype(float) for k, v in observation(program).items()})


def test_a_nan_is_said_by_a_tick_and_the_next_ones_go_on() -> None:
    program, plan, engines = crossing_deployment()
    blind = {
        name: np.full_like(array, np.nan) if array.dtype.kind == "f" else array
        for name, array in observation(program).items()
    }
    with (
        served(plan, engines) as server,
        EdgeSession(plan, DIGEST, engines, server.address) as policy,
        ControlLoop(policy, chunk_of(plan), RATE) as loop,
    ):
        assert loop.tick(blind) is None
        with pytest.raises(ObservationError, match="NaN"):
            wait_until(lambda: loop.tick(blind) is not None)
        assert wait_until(lambda: loop.tick(observation(program)) is not None)


def test_an_observation_cannot_come_from_the_future() -> None:
    program, plan, engines = crossing_deployment()
    with (
        served(plan, engines) as server,
        EdgeSession(plan, DIGEST, engines, server.address) as policy,
        ControlLoop(policy, chunk_of(plan), RATE) as loop,
    ):
        ahead = time.perf_counter_ns() + 10**12
        assert wait_until(lambda: loop.tick(observation(program), ahead) is not None)
        assert loop.last.age_s > 0


def test_the_cloud_is_killed_and_the_edge_goes_on_alone() -> None:
    program, plan, engines = deployment_with_alone()
    period_s = 0.06
    with served(plan, engines) as server:
        address = server.address
        policy = EdgeSession(plan, DIGEST, engines, address, 0.5, deadline=0.25)
        loop = ControlLoop(policy, chunk_of(plan), 1 / period_s)
        with policy, loop:
            before, longest = drive(loop, program, 15, period_s)
            assert "chosen" in {one.source for one in before}
            assert longest < 0.1
            server.shutdown()
            during, longest = drive(loop, program, 35, period_s)
            assert longest < 0.1
            assert "alone" in {one.source for one in during}
            assert "chosen" not in {one.source for one in during[20:]}
            assert not all(one.starved for one in during[20:])
            with served(plan, engines, port=address[1]):
                after, _ = drive(loop, program, 60, period_s)
                assert "chosen" in {one.source for one in after}
            ages_are_true([*before, *during, *after])


@pytest.mark.parametrize("direction", [UP, DOWN])
def test_an_outage_of_three_seconds(direction: str) -> None:
    """The last commands are held, ages grow with the outage, and one inference ends it."""
    program, plan, engines = crossing_deployment()
    with (
        served(plan, engines, timeout=0.3) as server,
        Proxy(server.address) as proxy,
        EdgeSession(plan, DIGEST, engines, proxy.address, 5.0) as policy,
        ControlLoop(policy, chunk_of(plan), RATE) as loop,
    ):
        before, _ = drive(loop, program, 25)
        assert not before[-1].starved
        proxy.arm(Fault("delay", direction, 0, seconds=3.0))
        during, longest = drive(loop, program, 140)
        assert longest < 0.1
        assert max(one.age_s for one in during) > 2.5
        starved = [one for one in during if one.starved]
        assert len(starved) > 100
        assert all(one.command is not None for one in starved)
        after, _ = drive(loop, program, 60)
        ended = next(place for place, one in enumerate(after) if not one.starved)
        assert sum(one.starved for one in after[ended:]) < 10  # one inference in ten is slower
        assert min(one.age_s for one in after[-10:]) < 0.5
        ages_are_true([*before, *during, *after])


def test_the_wall_clock_may_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    days = itertools.cycle((0.0, 3e5, -8e5, 6e4))
    wall = time.time
    program, plan, engines = crossing_deployment()
    with (
        served(plan, engines) as server,
        EdgeSession(plan, DIGEST, engines, server.address) as policy,
        ControlLoop(policy, chunk_of(plan), RATE) as loop,
    ):
        loop.prime(observation(program))
        monkeypatch.setattr(time, "time", lambda: wall() + next(days))
        reports, _ = drive(loop, program, 50)
        assert sum(one.starved for one in reports) < 10
        assert all(0 <= one.age_s < 1.0 for one in reports)


def test_nothing_of_the_loop_reads_the_wall_clock() -> None:
    folder = Path(vlacut.control.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert f"{node.value.id}.{node.attr}" not in {"time.time", "time.time_ns"}, path


def test_without_a_cloud_an_inference_fails_and_the_loop_says_so() -> None:
    program, plan, engines = crossing_deployment()
    with (
        served(plan, engines) as server,
        EdgeSession(plan, DIGEST, engines, server.address, 0.2) as policy,
        ControlLoop(policy, chunk_of(plan), RATE) as loop,
    ):
        drive(loop, program, 10)
        server.shutdown()
        reports, longest = drive(loop, program, 60)
        assert longest < 0.1
        assert reports[-1].starved
        assert loop.error
        assert "failed" in {one.dropped for one in reports}


def test_a_variant_that_needs_a_cloud_there_is_none_of_is_said() -> None:
    class Crossing(WhenEmpty):
        def decide(self, situation: Situation) -> Decision:
            return Request(variant=0)

    program, plan, engines = deployment_with_alone()
    with (
        EdgeSession(plan, DIGEST, engines, None, selector=Always(1)) as policy,
        ControlLoop(policy, chunk_of(plan), RATE, Crossing()) as loop,
        pytest.raises(InputError, match="crosses the link"),
    ):
        drive(loop, program, 50)


def test_the_loop_ends_while_an_inference_hangs() -> None:
    program, plan, engines = deployment_with_alone()
    held = {name: Held(engine) for name, engine in engines.items()}
    with EdgeSession(plan, DIGEST, held, None, selector=Always(1)) as policy:
        loop = ControlLoop(policy, chunk_of(plan), RATE)
        loop.tick(observation(program))
        began = time.monotonic()
        loop.close()
        loop.close()
        assert time.monotonic() - began < 5
        for engine in held.values():
            engine.go.set()


def test_an_address_nobody_serves_is_no_matter_to_a_robot_that_can_act_alone() -> None:
    program, plan, engines = deployment_with_alone()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = taken.getsockname()[:2]
    with (
        EdgeSession(plan, DIGEST, engines, address, deadline=0.2) as policy,
        ControlLoop(policy, chunk_of(plan), 20) as loop,
    ):
        loop.prime(observation(program))
        assert loop.tick(observation(program)) is not None
        assert loop.last.source == "alone"


def test_a_deadline_beyond_the_chunk_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """While the cloud is late the loop would have no command left."""
    _, plan, engines = deployment_with_alone()
    lasts_s = 8 * PERIOD_S
    with served(plan, engines) as server:
        for deadline, said in ((lasts_s * 0.9, False), (lasts_s * 1.5, True)):
            with (
                EdgeSession(plan, DIGEST, engines, server.address, deadline=deadline) as policy,
                ControlLoop(policy, chunk_of(plan), RATE),
            ):
                assert ("longer than a chunk lasts" in caplog.text) == said
