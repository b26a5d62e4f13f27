"""Faults inside a batch, and with requests in flight: others go on, and no action is wrong."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress

import numpy as np
import pytest
from support.control import TICK_NS
from support.cutting import Reference
from support.deployments import serving_thread
from support.proxy import DOWN, UP, Fault, Proxy, wait_until
from support.token_loops import prompts, token_program

import vlacut
from vlacut.bundle.opened import Bundle
from vlacut.compiler.driver import compile_program
from vlacut.compiler.target import Target
from vlacut.errors import InputError, VlacutError
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.engines import edge_engines

KINDS = ("cut", "reset", "stall", "delay", "duplicate", "corrupt", "drop")
ON_CLOUD = Target("jetson-agx-orin", "a100", "1GB/s,0.1ms", pin=("*=cloud",), batch="1,2,4")
OBSERVATIONS = prompts(token_program(5), 6)
GIVES_UP_S = 60.0  # a robot that is well: three times what a loaded machine may take


@pytest.fixture(scope="module")
def expected() -> list[np.ndarray]:
    """What the plain program makes of each observation alone."""
    reference, found = Reference(token_program(5)), []
    for observed in OBSERVATIONS:
        reference.reset()
        found.append(reference.step(observed)["action"])
    return found


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A token loop in the cloud, for 1, 2 and 4 robots at once."""
    path = tmp_path_factory.mktemp("loop") / "b.vlacut"
    return compile_program(token_program(5), ON_CLOUD, path)[1]


@pytest.fixture(scope="module")
def overlapped(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same with requests in flight, whose state is the cloud's."""
    target = Target(ON_CLOUD.edge, ON_CLOUD.cloud, ON_CLOUD.link, pin=("*=cloud",), in_flight=2)
    path = tmp_path_factory.mktemp("flight") / "b.vlacut"
    return compile_program(token_program(5), target, path)[1]


class Robot:
    """Steps, and holds every action to the plain program's of the observation it is made of."""

    def __init__(self, policy: EdgeSession, expected: Sequence[np.ndarray], seed: int) -> None:
        self._policy, self._expected = policy, expected
        self._seen: list[int] = []
        self._numbers = random.Random(seed)
        self.actions = 0

    def step(self) -> None:
        which = self._numbers.randrange(len(OBSERVATIONS))
        self._seen.append(which)
        at = len(self._seen) - 1
        made = self._policy.step(OBSERVATIONS[which], captured_ns=at * TICK_NS)
        if self._policy.last.warming:
            assert made == {}
            return
        of = self._seen[self._policy.last.made.captured_ns // TICK_NS]
        np.testing.assert_allclose(made["action"], self._expected[of], atol=1e-5)
        self.actions += 1


class Well:
    """Robots that step without pause until they are stopped."""

    def __init__(
        self, bundle: Bundle, cloud: tuple[str, int], expected: list[np.ndarray], count: int
    ) -> None:
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self._bundle, self._cloud, self._expected = bundle, cloud, expected
        self._ready = threading.Barrier(count + 1)
        self._threads = [threading.Thread(target=self._run, args=(one,)) for one in range(count)]
        self.actions = [0] * count
        for thread in self._threads:
            thread.start()
        self._ready.wait(GIVES_UP_S)

    def _run(self, number: int) -> None:
        try:
            with connected(self._bundle, self._cloud, GIVES_UP_S) as policy:
                robot = Robot(policy, self._expected, number)
                self._ready.wait(GIVES_UP_S)
                while not self._stop.is_set():
                    robot.step()
                    self.actions[number] = robot.actions
        except BaseException as error:  # it is raised again where it is waited for
            self._errors.append(error)

    def go_on(self, more: int) -> None:
        """Wait until each has made so many actions more; raises what went wrong."""
        wanted = [one + more for one in self.actions]

        def done() -> bool:
            pairs = zip(self.actions, wanted, strict=True)
            return bool(self._errors) or all(one >= many for one, many in pairs)

        assert wait_until(done, GIVES_UP_S)
        if self._errors:
            raise self._errors[0]

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * GIVES_UP_S)
        if self._errors:
            raise self._errors[0]


@contextmanager
def connected(bundle: Bundle, cloud: tuple[str, int], timeout: float) -> Iterator[EdgeSession]:
    """With checksums: on loopback no other thing notices altered bytes."""
    engines = edge_engines(bundle, False, True)
    with EdgeSession(bundle.plan, bundle.digest, engines, cloud, timeout, checked=True) as session:
        yield session


@contextmanager
def serving(bundle: Bundle, batch: str = "") -> Iterator[Server]:
    made = vlacut.serve(bundle.root, in_place=True, batch=batch)
    with closing(made) as server, serving_thread(server):
        yield server


def drawn(numbers: random.Random, size: dict[str, int]) -> Fault:
    """A fault of any kind, somewhere in the next so many bytes of a direction."""
    direction = numbers.choice((UP, DOWN))
    return Fault(
        numbers.choice(KINDS),
        direction,
        numbers.randrange(size[direction]),
        seconds=numbers.choice((0.01, 0.1)),
        count=numbers.choice((1, 8, 32)),
    )


def ordeal(bundle: Bundle, expected: list[np.ndarray], faults: int, seed: int) -> None:
    """Robots that are well beside one that stalls, dies and is hurt on the way, again and again."""
    numbers = random.Random(seed)
    with serving(bundle) as server, Proxy(server.address) as proxy, ExitStack() as stack:
        together = list(server.bundles[0].batches.values())
        for one in together:  # whatever else this machine does, company pays
            one.seconds = {size: 0.01 * (1 + 0.1 * size) for size in one.seconds}
            one._tried = dict(one.seconds)
        well = Well(bundle, server.address, expected, 3)
        stack.callback(well.end)
        for number in range(faults):
            with suppress(VlacutError), connected(bundle, proxy.address, 0.5) as sick:
                robot = Robot(sick, expected, number)
                before = dict(proxy.passed)
                for _ in range(4):
                    robot.step()
                size = {way: proxy.passed[way] - before[way] for way in before}
                proxy.arm(drawn(numbers, size))
                for _ in range(8):
                    robot.step()
            proxy.arm(None)
        well.go_on(3)
        if together:
            assert sum(one.runs[2] + one.runs[4] for one in together) > 0
    assert proxy.struck > faults // 3


def test_who_stalls_or_dies_in_a_batch_leaves_the_others_right(
    loop: Bundle, expected: list[np.ndarray]
) -> None:
    ordeal(loop, expected, 3, seed=1)


def test_faults_with_requests_in_flight(overlapped: Bundle, expected: list[np.ndarray]) -> None:
    assert overlapped.plan.warming
    ordeal(overlapped, expected, 3, seed=2)


@pytest.mark.slow
def test_many_faults_in_batches(loop: Bundle, expected: list[np.ndarray]) -> None:
    ordeal(loop, expected, 80, seed=3)


@pytest.mark.slow
def test_many_faults_with_requests_in_flight(
    overlapped: Bundle, expected: list[np.ndarray]
) -> None:
    ordeal(overlapped, expected, 80, seed=4)


def test_who_floods_has_its_turn_and_no_other(loop: Bundle, expected: list[np.ndarray]) -> None:
    """Robots that step without pause, in as many sessions as there are turns: a late one steps."""
    with serving(loop) as server:
        cloud = server.address
        flood = Well(loop, cloud, expected, 6)
        try:
            with connected(loop, cloud, GIVES_UP_S) as policy:
                robot = Robot(policy, expected, 9)
                for _ in range(10):
                    robot.step()
                assert robot.actions == 10
        finally:
            flood.end()


def test_a_server_takes_the_sizes_it_is_told(
    loop: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    for batch, sizes in (("", {1, 2, 4}), ("1,2", {1, 2}), ("off", set()), ("2,3", {1, 2})):
        with closing(vlacut.serve(loop.root, in_place=True, batch=batch)) as server:
            found = [set(one.seconds) for one in server.bundles[0].batches.values()]
            assert all(one == sizes for one in found)
            assert bool(found) is bool(sizes)
            assert server.bundles[0].batch_runs.total() == 0
    assert "has no engines for 3 robots at once; compile it with --batch" in caplog.text
    with caplog.at_level(logging.WARNING), pytest.raises(InputError, match="run at once"):
        vlacut.serve(loop.root, batch="many")


def test_a_bundle_that_is_loaded_is_tried_in_turn(loop: Bundle) -> None:
    """Not while the engine of another runs: each would be measured with the other."""
    with closing(vlacut.serve([loop.root], in_place=True)) as server:
        deployment, turns = server.bundles[0], server._turns
        deployment.unload()
        go, began, loaded = threading.Event(), threading.Event(), threading.Event()

        def busy() -> None:
            began.set()
            assert go.wait(GIVES_UP_S)

        def load() -> None:
            deployment.load()
            loaded.set()

        threads = [threading.Thread(target=turns.alone, args=(busy,))]
        threads[0].start()
        assert began.wait(GIVES_UP_S)
        threads.append(threading.Thread(target=load))
        threads[1].start()
        assert wait_until(lambda: len(turns._waiting) == 1, GIVES_UP_S)
        assert not loaded.is_set()
        go.set()
        assert loaded.wait(GIVES_UP_S)
        for thread in threads:
            thread.join(GIVES_UP_S)
