"""Robots whose runs meet in a part run it together: the same actions, no deadline lost for it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from support.cutting import Reference
from support.deployments import Held, served
from support.proxy import wait_until
from support.token_loops import prompts, token_program

import vlacut
from vlacut.bundle.opened import Bundle
from vlacut.bundle.reading import open_bundle
from vlacut.cli.show.together import carried, show_together
from vlacut.compiler.driver import compile_program
from vlacut.compiler.target import Target
from vlacut.errors import BackendError, BundleError, InputError
from vlacut.hardware import Side
from vlacut.plans.batch import Batch, check_batches, parse_batches, slot
from vlacut.runtime.cloud.asked import Asked
from vlacut.runtime.cloud.batches import Batches
from vlacut.runtime.cloud.habits import Expected, Habit
from vlacut.runtime.cloud.pace import Pace
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.cloud.turns import Turns
from vlacut.runtime.engines import cloud_engines
from vlacut.tensor import TensorSpec

ROBOTS = 4


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A token loop in the cloud, for 1, 2 and 4 robots at once."""
    target = Target("jetson-agx-orin", "a100", "1GB/s,0.1ms", pin=("*=cloud",), batch="1,2,4")
    path = tmp_path_factory.mktemp("batch") / "b.vlacut"
    return compile_program(token_program(5), target, path)[1]


@contextmanager
def serving(bundle: Bundle, held: str = "") -> Iterator[tuple[Server, Held | None]]:
    """A server of the bundle; runs of the part `held` wait until they are let go."""
    engines: dict[str, Any] = dict(cloud_engines(bundle, False, True))
    gate = Held(engines[held]) if held else None
    if gate is not None:
        gate.go.set()  # while it is loaded
        engines[held] = gate
    with served(bundle.plan, engines, bundle.digest, timeout=60.0) as server:
        yield server, gate


def test_weights_are_read_once_and_stored_once(bundle: Bundle) -> None:
    reopened = open_bundle(bundle.root)
    parts = [part for part in reopened.parts(Side.CLOUD) if part.batches]
    assert parts
    for part in parts:
        assert [batch.robots for batch in part.batches] == [2, 4]
        assert all(batch.seconds < batch.robots * part.seconds for batch in part.batches)
    alone = Target("jetson-agx-orin", "a100", "1GB/s,0.1ms", pin=("*=cloud",))
    path = bundle.root.parent / "alone.vlacut"
    _, other = compile_program(token_program(5), alone, path)
    kept = [{name for name in one.files if name.startswith("weights/")} for one in (bundle, other)]
    assert kept[0] == kept[1]


def test_what_a_server_carries_is_told_one_by_one_and_in_batches(bundle: Bundle) -> None:
    """A step in a batch takes longer, and more robots have it."""
    rows = list(carried(bundle.plan))
    assert [size for size, *_ in rows] == [2, 4]
    for size, step_s, one_by_one, batches in rows:
        alone_s = bundle.plan.variants[0].price.total_s
        assert alone_s < step_s < size * alone_s
        assert one_by_one < batches
    console = Console(record=True, width=100)
    show_together(console, bundle.plan)
    text = console.export_text()
    assert "Robots on one server with that as deadline" in text
    assert all(str(row[-1]) in text for row in rows)


def test_robots_that_meet_get_their_own_actions(bundle: Bundle) -> None:
    """All wait behind one run; then they go on together."""
    observations = prompts(token_program(5), ROBOTS + 1)
    reference = Reference(token_program(5))
    expected = []
    for observed in observations:
        reference.reset()
        expected.append(reference.step(observed)["action"])
    first = next(part.name for part in bundle.parts(Side.CLOUD) if part.batches)
    made: dict[int, np.ndarray] = {}
    with serving(bundle, first) as (server, gate), ExitStack() as stack:
        assert gate is not None
        cloud = "{}:{}".format(*server.address)
        robots = [
            stack.enter_context(vlacut.connect(bundle.root, cloud, in_place=True, timeout=60.0))
            for _ in observations
        ]

        def step(number: int) -> None:
            made[number] = robots[number].step(observations[number])["action"]

        (deployment,) = server.bundles
        of = deployment.batches[first]
        of.seconds = {1: 1.0, 2: 1.2, 4: 1.6}  # whatever else this machine does
        gate.go.clear()
        gate.began.clear()
        threads = [threading.Thread(target=step, args=(at,)) for at in range(len(robots))]
        threads[0].start()
        assert gate.began.wait(30)
        for thread in threads[1:]:
            thread.start()
        turns = server._turns
        assert wait_until(lambda: len(turns._waiting) == ROBOTS, 30)
        gate.go.set()
        for thread in threads:
            thread.join(60)
        assert (of.runs[4], of.failed) == (1, 0)
    for number, action in made.items():
        np.testing.assert_allclose(action, expected[number], atol=1e-5)
    assert len(made) == ROBOTS + 1


class Adding:
    """An engine that adds one, for each robot."""

    def __init__(self, robots: int, broken: float = math.nan) -> None:
        self._robots, self._broken = robots, broken

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if any(array[0] == self._broken for array in inputs.values()):
            raise BackendError("part p: it broke")
        if self._robots == 1:
            return {"y": inputs["x"] + 1}
        return {slot("y", at): inputs[slot("x", at)] + 1 for at in range(self._robots)}


def batches(broken: float = math.nan) -> Batches:
    part: Any = SimpleNamespace(name="p", inputs=("x",), outputs=("y",))
    plan: Any = SimpleNamespace(spec={"x": TensorSpec("x", "float32", (1,))})
    made = Batches(part, {size: Adding(size, broken) for size in (1, 2, 4)}, plan)
    made.seconds = {1: 0.010, 2: 0.012, 4: 0.016}
    made._tried = dict(made.seconds)
    return made


def asked(of: Batches, value: float = 1.0, due_s: float = math.inf) -> Asked:
    return Asked(Adding(1), {"x": np.full(1, value, np.float32)}, due_s, 0.0, of)


def test_as_many_as_pay_run_together() -> None:
    of = batches()
    assert [len(of.choose([asked(of)] * many)) for many in (1, 2, 3, 4, 6)] == [1, 2, 3, 4, 4]
    of.seconds[4] = 0.1
    assert len(of.choose([asked(of)] * 4)) == 2


def test_a_deadline_that_company_would_miss_is_kept() -> None:
    """Of whoever is among them; one that is late in any case holds nobody up."""
    of, now = batches(), time.monotonic()
    of.seconds = {1: 1.0, 2: 1.2, 4: 1.6}
    assert len(of.choose([asked(of, due_s=now + 1.4), *[asked(of)] * 3])) == 2
    assert len(of.choose([*[asked(of)] * 3, asked(of, due_s=now + 1.4)])) == 2
    assert len(of.choose([asked(of, due_s=now + 1.1), *[asked(of)] * 3])) == 1
    assert len(of.choose([asked(of, due_s=now + 0.5), *[asked(of)] * 3])) == 4


def test_one_slow_run_does_not_end_an_engine() -> None:
    """What is not run is not measured: it is taken to have come back to what it was."""
    of = batches()
    for _ in range(20):
        of.note(4, 0.1)
    assert len(of.choose([asked(of)] * 4)) == 2
    for _ in range(200):
        of.note(2, 0.012)
    assert len(of.choose([asked(of)] * 4)) == 4


def test_engines_that_got_slower_are_all_taken_to_be() -> None:
    of = batches()
    for _ in range(400):
        of.note(1, 0.030)
    assert of.seconds == pytest.approx({1: 0.030, 2: 0.036, 4: 0.048}, rel=0.01)


class Away:
    """A tensor on a robot's device, which no engine of others may read there."""

    nbytes = 4

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def start(self) -> None:
        """Nothing has to be copied."""

    def array(self) -> np.ndarray:
        return self._array


def test_what_lies_on_a_robots_device_comes_through_the_host() -> None:
    of = batches()
    members = [asked(of, value) for value in (1.0, 2.0)]
    for one in members:
        one.inputs = {"x": Away(one.inputs["x"])}  # type: ignore[arg-type]  # as an array it was
    of.run(members)
    assert [float(one.made["y"][0]) for one in members] == [2.0, 3.0]


def test_free_places_are_filled_and_answers_are_their_own() -> None:
    of = batches()
    members = [asked(of, value) for value in (1.0, 2.0, 3.0)]
    of.run(members)
    assert [float(one.made["y"][0]) for one in members] == [2.0, 3.0, 4.0]
    assert of.runs[4] == 1


def test_who_breaks_a_batch_fails_alone() -> None:
    of = batches(broken=7.0)
    turns, made, errors = Turns(), dict[float, float](), list[float]()
    gate = threading.Event()

    class Waiting:
        def run(self, inputs: object) -> dict[str, np.ndarray]:
            assert gate.wait(30)
            return {}

    def run(value: float) -> None:
        one = asked(of, value)
        one.engine = Adding(1, 7.0)
        try:
            made[value] = float(turns.run(one)["y"][0])
        except BackendError:
            errors.append(value)

    first = threading.Thread(target=lambda: turns.run(Asked(Waiting(), {}, math.inf, 0.0)))
    first.start()
    threads = [threading.Thread(target=run, args=(value,)) for value in (1.0, 7.0, 3.0)]
    for thread in threads:
        thread.start()
    assert wait_until(lambda: len(turns._waiting) == 3)
    gate.set()
    for thread in (first, *threads):
        thread.join()
    assert made == {1.0: 2.0, 3.0: 4.0}
    assert errors == [7.0]
    assert of.failed == 1


def test_an_engine_that_fails_without_a_robots_fault_is_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    of, turns = batches(broken=1.0), Turns()
    members = [asked(of), asked(of, 2.0)]
    with turns._lock:
        turns._waiting.append(members[1])
    assert float(turns.run(members[0])["y"][0]) == 2.0
    assert float(members[1].made["y"][0]) == 3.0
    assert (set(of.seconds), of.most, of.failed) == ({1, 4}, 4, 1)
    assert "p for 2 robots fails where each alone does not: part p: it broke" in caplog.text


def test_first_due_goes_first_and_nobody_is_passed_over_often() -> None:
    turns, order, gate = Turns(), list[str](), threading.Event()

    class Noting:
        def __init__(self, name: str) -> None:
            self.name = name

        def run(self, inputs: object) -> dict[str, np.ndarray]:
            assert gate.wait(30)
            order.append(self.name)
            return {}

    now = time.monotonic()
    asks = [("runs", math.inf), ("no deadline", math.inf)]
    asks += [(f"due {at}", now + at / 10) for at in (4, 3, 2, 1)]
    threads = []
    for number, (name, due_s) in enumerate(asks):
        one = Asked(Noting(name), {}, due_s, 0.0)
        threads.append(threading.Thread(target=turns.run, args=(one,)))
        threads[-1].start()
        assert wait_until(lambda so=number: turns.lasts_s and len(turns._waiting) == so)
    gate.set()
    for thread in threads:
        thread.join()
    assert order == ["runs", "due 1", "due 2", "no deadline", "due 4", "due 3"]


class Wrong(Adding):
    """One that gives every robot what the first gets."""

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        made = super().run(inputs)
        return dict.fromkeys(made, made[slot("y", 0)])


def test_an_engine_that_is_wrong_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    part: Any = SimpleNamespace(name="p", inputs=("x",), outputs=("y",))
    plan: Any = SimpleNamespace(spec={"x": TensorSpec("x", "float32", (1,))})
    of = Batches(part, {1: Adding(1), 2: Adding(2), 4: Wrong(4)}, plan)
    assert (set(of.seconds), of.most) == ({1, 2}, 2)
    assert "p for 4 robots does not make what it makes for each" in caplog.text


class Broken(Adding):
    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        raise BackendError("no memory is left")


def test_an_engine_for_several_that_fails_as_it_is_tried_is_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    part: Any = SimpleNamespace(name="p", inputs=("x",), outputs=("y",))
    plan: Any = SimpleNamespace(spec={"x": TensorSpec("x", "float32", (1,))})
    of = Batches(part, {1: Adding(1), 2: Adding(2), 4: Broken(4)}, plan)
    assert (set(of.seconds), of.most) == ({1, 2}, 2)
    assert "p for 4 robots fails: no memory is left" in caplog.text
    with pytest.raises(BackendError, match="no memory is left"):
        Batches(part, {1: Broken(1), 2: Adding(2)}, plan)


def test_every_run_of_a_trial_is_a_turn_of_its_own() -> None:
    """Robots have theirs between them, and a server is stuck only where one run takes too long."""
    part: Any = SimpleNamespace(name="p", inputs=("x",), outputs=("y",))
    plan: Any = SimpleNamespace(spec={"x": TensorSpec("x", "float32", (1,))})
    runs = 0

    class Counting(Adding):
        def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            nonlocal runs
            runs += 1
            return super().run(inputs)

    def in_turn(work: Callable[[], None]) -> None:
        before = runs
        work()
        assert runs == before + 1

    of = Batches(part, {1: Counting(1), 2: Counting(2)}, plan, in_turn)
    assert runs == 3 + 3 + 2  # three of each, and each robot's alone
    assert set(of.seconds) == {1, 2}


def test_runs_are_read_while_others_are_noted() -> None:
    """A page of metrics reads them in a thread of its own."""
    of = batches()
    reading = iter(of.runs.items())
    assert next(reading) == (1, 0)
    of.note(4, 0.016)
    assert dict(reading) == {2: 0, 4: 1}


def test_parts_without_batches_count_in_what_a_step_has_left() -> None:
    of = batches()
    pace = Pace(object(), {"p": of}, {"p": 9.0, "q": 2.0, "r": 3.0})
    pace.begin(math.inf, ("q", "p", "r"))
    asks = [pace.asked(name, Adding(1), {}) for name in ("q", "p", "r")]
    assert [one.after_s for one in asks] == pytest.approx([3.01, 3.0, 0.0])
    assert [one.between for one in asks] == [("q", "p"), ("p", "r"), ("r", "q")]
    assert [one.then for one in asks] == [of, None, None]


def expected(turns: Turns, of: Batches, pause_s: float) -> Habit:
    """A robot that paused so long twice, and has just begun to pause."""
    habit, between = Habit(), ("p", "p")
    now = time.monotonic()
    for _ in range(2):
        habit.left(now - pause_s, between, of)
        habit.came(now)
    with turns._lock:
        turns._expected.left(habit, between, of)
    return habit


def ask(turns: Turns, of: Batches, habit: Habit | None, company: object = None) -> float:
    """A robot asks, and gets what it asked for; seconds that it took."""
    one = asked(of)
    one.company, one.habit, one.between, one.then = company, habit, ("p", "p"), of
    assert float(turns.run(one)["y"][0]) == 2.0
    return time.monotonic() - one.asked_s


def test_who_paused_shortly_twice_is_waited_for() -> None:
    of, turns = batches(), Turns()
    of.seconds = {1: 100.0, 2: 110.0, 4: 120.0}
    back = expected(turns, of, 0.2)
    leading = threading.Thread(target=ask, args=(turns, of, Habit()))
    leading.start()
    assert wait_until(lambda: turns.lasts_s > 0)
    assert of.runs == {1: 0, 2: 0, 4: 0}
    ask(turns, of, back)  # it would be waited for 45 s
    leading.join()
    assert of.runs == {1: 0, 2: 1, 4: 0}


@pytest.mark.parametrize("pause_s", [60.0, math.inf])
def test_who_comes_too_late_to_save_what_is_waited_is_not_waited_for(pause_s: float) -> None:
    """45 s pay, half of what the engines are spared; and nobody is expected who paused once."""
    of, turns = batches(), Turns()
    of.seconds = {1: 100.0, 2: 110.0, 4: 120.0}
    expected(turns, of, pause_s)
    assert ask(turns, of, Habit()) < 4
    assert of.runs == {1: 1, 2: 0, 4: 0}


def test_who_does_not_come_is_waited_for_only_as_long_as_it_pays() -> None:
    """With engines of 1.0, 1.2 and 1.6 s one more saves 0.8 s and three save 1.0 s."""
    of, now = batches(), 1000.0
    of.seconds = {1: 1.0, 2: 1.2, 4: 1.6}
    there = Expected()
    for pause_s in (0.1, 0.2, 0.3):
        habit = Habit()
        for _ in range(2):
            habit.left(now - pause_s, ("p", "p"), of)
            habit.came(now)
        habit.left(now, ("p", "p"), of)
        there._away[habit] = None
    assert there.wait(of, 1, now) == (pytest.approx(now + 0.5), 3)
    assert there.wait(of, 3, now) == (pytest.approx(now + 0.5 * (1.6 + 1.0 - 1.6)), 1)
    until, coming = there.wait(of, 1, now + 0.45)  # all are overdue
    assert (until, coming) == (pytest.approx(now + 0.3 + 0.5), 3)
    assert there.wait(of, 1, now + 0.8) == (-math.inf, 0)


def test_who_has_left_is_not_waited_for() -> None:
    of, turns = batches(), Turns()
    of.seconds = {1: 100.0, 2: 110.0, 4: 120.0}
    turns.forget(expected(turns, of, 0.0))
    assert ask(turns, of, Habit()) < 4


def test_a_deadline_is_not_waited_away() -> None:
    """Of nobody who waits, the one who leads or another."""
    of, turns = batches(), Turns()
    of.seconds = {1: 100.0, 2: 110.0, 4: 120.0}
    expected(turns, of, 0.2)
    with turns._lock:
        turns._waiting.append(asked(of, due_s=time.monotonic() + 120.0))
    assert ask(turns, of, Habit()) < 4
    assert of.runs == {1: 0, 2: 1, 4: 0}


def test_nobody_waits_for_company_while_another_bundle_waits() -> None:
    of, turns = batches(), Turns()
    of.seconds = {1: 1000.0, 2: 1100.0, 4: 1200.0}
    expected(turns, of, 0.2)  # 450 s
    leading = threading.Thread(target=ask, args=(turns, of, Habit(), object()))
    start = time.monotonic()
    leading.start()
    assert wait_until(lambda: turns.lasts_s > 0)
    ask(turns, of, None, object())
    leading.join()
    assert time.monotonic() - start < 40


def test_alone_nobody_waits_for_company() -> None:
    """Not for itself, however soon it comes back each time."""
    of, turns, mine = batches(), Turns(), Habit()
    of.seconds = {1: 100.0, 2: 110.0, 4: 120.0}
    start = time.monotonic()
    for _ in range(4):
        ask(turns, of, mine)
    assert time.monotonic() - start < 4


def test_what_no_batch_is_is_refused() -> None:
    assert parse_batches("8,1,2") == (2, 8)
    assert parse_batches("") == ()
    for text in ("0", "2,x", "65"):
        with pytest.raises(InputError, match="write how many robots run at once"):
            parse_batches(text)
    for sizes in ((1,), (4, 2), (2, 2)):
        with pytest.raises(BundleError, match="of 2 and more, rising"):
            check_batches("p", [Batch(size, 1.0) for size in sizes])


def test_engines_that_are_built_later_have_no_batches(tmp_path: Path) -> None:
    target = Target("jetson-agx-orin", "a100", "1GB/s,0.1ms", pin=("*=cloud",), batch="2")
    with pytest.raises(InputError, match="builds engines of single parts"):
        compile_program(
            token_program(5), target, tmp_path / "b", backend="edge=onnxruntime,cloud=tensorrt"
        )
