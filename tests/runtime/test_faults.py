"""Faults injected between edge and cloud: no wrong action, no hang, no session left behind."""

from __future__ import annotations

import ast
import itertools
import logging
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cutting import run_whole
from support.deployments import DIGEST, Held, crossing_deployment, deployment_with_alone, served
from support.programs import observation
from support.proxy import DOWN, UP, Fault, Proxy, wait_until

import vlacut.runtime
from vlacut.errors import DeadlineMissed, InputError, PeerLost, PeerRefused
from vlacut.runtime.edge.report import Source
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.wire.security import cloud_context, edge_context
from vlacut.security.keys import make_keys

KINDS = ("cut", "reset", "stall", "delay", "duplicate", "corrupt", "drop", "overtake")
DEADLINE_S = 0.1
# Engines here take well under a millisecond; the rest is what a busy machine may add, more only if
# `Heartbeat` says so.
HANG_S = DEADLINE_S + 0.5


class Heartbeat:
    """Measures by how much this machine delays a thread that does nothing else but sleep."""

    def __init__(self) -> None:
        self._worst_s = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat)

    def _beat(self) -> None:
        last = time.monotonic()
        while not self._stop.is_set():
            time.sleep(0.005)
            now = time.monotonic()
            self._worst_s = max(self._worst_s, now - last)
            last = now

    def worst_s(self) -> float:
        """The longest since it was last asked."""
        time.sleep(0.01)  # a beat that is late now counts too
        worst, self._worst_s = self._worst_s, 0.0
        return worst

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def inject(
    faults: Iterable[Callable[[dict[str, int]], Fault]],
    alone: bool = False,
    hedge: bool = False,
    keys: Path | None = None,
) -> Counter[str]:
    """Steps through a proxy, with faults; sources of the actions, by how often, and `struck`.

    A fault is made for the bytes that a step has in each direction, and has two steps to strike.
    """
    edge = edge_context(keys / "robot") if keys else None
    options: dict[str, Any] = {"deadline": DEADLINE_S, "hedge": hedge, "tls": edge}
    options["checked"] = keys is None  # on loopback no other thing notices altered bytes
    cloud = cloud_context(keys / "cloud") if keys else None
    numbers = random.Random(3)
    program, plan, engines = deployment_with_alone() if alone else crossing_deployment()
    observed = [observation(program, number) for number in range(8)]
    expected = [run_whole(program, each) for each in observed]
    sources: Counter[str] = Counter()
    with served(plan, engines, timeout=0.3, tls=cloud) as server:
        with (
            Heartbeat() as heartbeat,
            Proxy(server.address) as proxy,
            EdgeSession(plan, DIGEST, engines, proxy.address, 0.3, **options) as policy,
        ):
            previous = policy.step(observed[0])
            passed = dict(proxy.passed)
            policy.step(observed[0])
            size = {way: proxy.passed[way] - passed[way] for way in passed}
            for fault in faults:
                proxy.arm(fault(size))
                for _ in range(2):  # the fault, and what follows from it
                    which = numbers.randrange(len(observed))
                    began = time.monotonic()
                    action = policy.step(observed[which])
                    took = time.monotonic() - began
                    assert took < HANG_S or took < HANG_S + 10 * heartbeat.worst_s()
                    stale = policy.last.source is Source.STALE
                    right = previous if stale else expected[which]
                    for name, array in right.items():
                        np.testing.assert_array_equal(action[name], array)
                    assert stale or policy.last.made.captured_ns >= policy.last.began_ns
                    sources[policy.last.source.value] += 1
                    if hedge:  # a robot steps no faster than its deadline
                        time.sleep(max(0.0, DEADLINE_S - took))
                    previous = action
            sources["struck"] = proxy.struck
        assert wait_until(lambda: server.robots == 0), "a session was left behind"
    return sources


def at_random(count: int, seed: int) -> Iterator[Callable[[dict[str, int]], Fault]]:
    """Faults of all kinds, anywhere in a step's bytes, or in the handshake after the last fault."""
    numbers = random.Random(seed)

    def draw(size: dict[str, int]) -> Fault:
        direction = numbers.choice((UP, DOWN))
        return Fault(
            numbers.choice(KINDS),
            direction,
            numbers.randrange(size[direction]),
            seconds=numbers.choice((0.01, 0.05, 0.2)),
            count=numbers.choice((1, 8, 32, 100)),
        )

    return iter([draw] * count)


def everywhere(kind: str) -> Iterator[Callable[[dict[str, int]], Fault]]:
    """A fault at every byte of a step, one direction after the other."""
    for direction in (UP, DOWN):
        at, end = 0, 1
        while at < end:

            def make(size: dict[str, int], at: int = at, direction: str = direction) -> Fault:
                nonlocal end
                end = size[direction]
                return Fault(kind, direction, at)

            yield make
            at += 1


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder, ("robot",), 1)
    return folder


@pytest.mark.parametrize(("alone", "hedge"), [(False, False), (True, False), (True, True)])
def test_faults(alone: bool, hedge: bool) -> None:
    sources = inject(at_random(12, seed=5), alone=alone, hedge=hedge)
    assert sources["chosen"] > 0
    assert sources["alone"] + sources["stale"] > 0


def test_faults_in_tls(keys: Path) -> None:
    sources = inject(at_random(15, seed=7), keys=keys)
    assert min(sources["chosen"], sources["stale"]) > 0


@pytest.mark.slow
@pytest.mark.parametrize(("alone", "hedge"), [(False, False), (True, False), (True, True)])
def test_a_thousand_faults(alone: bool, hedge: bool) -> None:
    sources = inject(at_random(480, seed=6), alone=alone, hedge=hedge)
    assert sources["chosen"] > 100
    assert sources["struck"] > 340


@pytest.mark.slow
def test_faults_in_tls_at_length(keys: Path) -> None:
    assert inject(at_random(400, seed=8), keys=keys)["chosen"] > 100


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cut", "corrupt"])
def test_a_fault_at_every_byte_of_a_step(kind: str) -> None:
    sources = inject(everywhere(kind), alone=True)
    assert sources["chosen"] > 100


@pytest.mark.parametrize("direction", [UP, DOWN])
def test_an_old_connection_s_frames_come_after_the_new_one_s(direction: str) -> None:
    """What was held up reaches the cloud, or the edge, when both have gone on without it."""
    program, plan, engines = crossing_deployment()
    observed = [observation(program, number) for number in range(2)]
    with (
        served(plan, engines, timeout=0.3) as server,
        Proxy(server.address) as proxy,
        EdgeSession(plan, DIGEST, engines, proxy.address, 0.2, deadline=DEADLINE_S) as policy,
    ):
        policy.step(observed[0])
        for number in range(4):
            proxy.arm(Fault("overtake", direction, 40 * number))
            sources = []
            while not sources or sources[-1] is not Source.CHOSEN or proxy.struck <= number:
                action = policy.step(observed[number % 2])
                sources.append(policy.last.source)
                assert len(sources) < 100
            assert Source.STALE in sources
            for name, array in run_whole(program, observed[number % 2]).items():
                np.testing.assert_array_equal(action[name], array)
        assert wait_until(lambda: server.robots == 1)
        assert server.counts.events["connected"] > 4


def test_the_wall_clock_may_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    """By days, back and forth, at every call: deadlines, ages and redials are on another clock."""
    days = itertools.cycle((0.0, 3e5, -8e5, 6e4))
    wall, wall_ns = time.time, time.time_ns
    program, plan, engines = crossing_deployment()
    expected = run_whole(program, observation(program))
    with (
        served(plan, engines) as server,
        Proxy(server.address) as proxy,
        EdgeSession(plan, DIGEST, engines, proxy.address, deadline=2.0) as policy,
    ):
        monkeypatch.setattr(time, "time", lambda: wall() + next(days))
        monkeypatch.setattr(time, "time_ns", lambda: wall_ns() + round(next(days) * 1e9))
        for number in range(12):
            if number == 6:
                proxy.arm(Fault("cut", DOWN, 0))
            action = policy.step(observation(program))
            assert policy.last.source is Source.CHOSEN
            assert 0 < policy.last.age_s < 2.5
            for name, array in expected.items():
                np.testing.assert_array_equal(action[name], array)


def test_nothing_of_the_runtime_reads_the_wall_clock() -> None:
    folder = Path(vlacut.runtime.__file__).parent
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_text())
        read = {
            f"{node.value.id}.{node.attr}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        }
        assert not read & {"time.time", "time.time_ns", "time.localtime"}, path
        assert "datetime" not in path.read_text(), path


def test_no_action_yet_is_an_error() -> None:
    program, plan, engines = crossing_deployment()
    with (
        served(plan, engines) as server,
        Proxy(server.address) as proxy,
        EdgeSession(plan, DIGEST, engines, proxy.address, deadline=DEADLINE_S) as policy,
    ):
        proxy.arm(Fault("stall", DOWN, 0))
        with pytest.raises(DeadlineMissed, match=r"no action for step 0 within 0.1 s"):
            policy.step(observation(program))


@pytest.mark.parametrize("hedge", [False, True])
def test_the_edge_alone_meets_the_deadline_when_the_cloud_does_not(hedge: bool) -> None:
    program, plan, engines = deployment_with_alone()
    held = {name: Held(engine) for name, engine in engines.items()}
    expected = run_whole(program, observation(program))
    with (
        served(plan, held) as server,
        EdgeSession(plan, DIGEST, engines, server.address, deadline=2.0, hedge=hedge) as policy,
    ):
        action = policy.step(observation(program))
        for engine in held.values():
            engine.go.set()
        assert policy.last.source is Source.ALONE
        assert policy.last.reason
        assert not policy.last.cloud_s
        for name, array in expected.items():
            np.testing.assert_array_equal(action[name], array)


def test_a_robot_that_can_act_alone_starts_before_its_cloud() -> None:
    program, plan, engines = deployment_with_alone()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = taken.getsockname()[:2]
    with pytest.raises(PeerLost, match="start vlacut serve there"):
        EdgeSession(plan, DIGEST, engines, address)  # it waits for the cloud in every step
    with EdgeSession(plan, DIGEST, engines, address, deadline=2.0) as policy:
        policy.step(observation(program))
        assert policy.last.source is Source.ALONE
        assert "no connection to the cloud" in policy.last.reason
        with served(plan, engines, port=address[1]):

            def together() -> bool:
                policy.step(observation(program))
                return policy.last.source is Source.CHOSEN

            assert wait_until(together)


def test_a_robot_that_can_act_alone_hears_that_its_cloud_is_another_s() -> None:
    _, plan, engines = deployment_with_alone()
    with served(plan, engines, bytes(32)) as server, pytest.raises(PeerRefused, match="bundle"):
        EdgeSession(plan, DIGEST, engines, server.address, deadline=2.0)


def test_hedging_needs_what_it_says() -> None:
    _, plan, engines = crossing_deployment()
    with pytest.raises(InputError, match="needs a deadline"):
        EdgeSession(plan, DIGEST, engines, ("127.0.0.1", 9), hedge=True)
    with pytest.raises(InputError, match="no all-edge variant"):
        EdgeSession(plan, DIGEST, engines, ("127.0.0.1", 9), deadline=1.0, hedge=True)


def test_an_outage_is_two_lines_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """One where it begins and one where it ends, however many steps it lasts."""
    program, plan, engines = crossing_deployment()
    with (
        caplog.at_level(logging.INFO, "vlacut.edge"),
        served(plan, engines) as server,
        Proxy(server.address) as proxy,
        EdgeSession(plan, DIGEST, engines, proxy.address, 0.5, deadline=DEADLINE_S) as policy,
    ):
        policy.step(observation(program))
        proxy.target = ("127.0.0.1", 9)  # nobody is there
        proxy.hang_up()
        for _ in range(20):
            policy.step(observation(program))
            assert policy.last.source is Source.STALE
        proxy.target = server.address

        def again() -> bool:
            policy.step(observation(program))
            return policy.last.source is Source.CHOSEN

        assert wait_until(again)
    said = [message for message in caplog.messages if message.startswith("from step")]
    assert len(said) == 2
    assert said[0].startswith("from step 1 on actions are the last one again: no connection")
    assert said[1].endswith("are by the plan's variant again")
