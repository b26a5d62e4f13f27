"""in-flight: the same actions in the same order, so many steps later; weights are read once."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.control import TICK_NS
from support.cutting import Reference
from support.deployments import deployed, initial_of
from support.flows import flow_observation, flow_program
from support.programs import random_stateful
from support.token_loops import prompts, token_program

import vlacut
from vlacut.compiler.driver import compile_program
from vlacut.compiler.planning import plan_program
from vlacut.compiler.target import Target
from vlacut.errors import InputError, PassError
from vlacut.ir import verifier
from vlacut.ir.annotation import NOTES, WARMING
from vlacut.ir.program import Program, copied
from vlacut.plans.state import StateRule
from vlacut.runtime.edge.flight import Flight
from vlacut.runtime.edge.report import Made, Source
from vlacut.runtime.local import run_episode
from vlacut.runtime.tally import Tally
from vlacut_passes.in_flight import InFlight
from vlacut_passes.pack import Pack
from vlacut_passes.pipelining.course import Course, course_of
from vlacut_passes.quantise import Quantise
from vlacut_passes.simplify import Simplify


def overlapped(program: Program, requests: int, attention: str = "alone") -> Program:
    for one in (InFlight(requests), Simplify(), Pack(attention)):
        one.run(program)
        verifier.verify(program)
    return program


def wanted(plain: Program, observations: list[dict[str, np.ndarray]]) -> list[np.ndarray]:
    """The action that the plain program makes of each observation alone."""
    reference, found = Reference(plain), []
    for observed in observations:
        reference.reset()
        found.append(reference.step(observed)["action"])
    return found


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    trips=st.integers(2, 5),
    memory=st.booleans(),
    attention=st.sampled_from(["alone", "batched"]),
    data=st.data(),
)
def test_actions_are_those_of_the_plain_program_in_order(
    seed: int, trips: int, memory: bool, attention: str, data: st.DataObject
) -> None:
    requests = data.draw(st.integers(2, trips + 1), "in flight")
    plain = token_program(seed, trips, memory=memory)
    program = overlapped(token_program(seed, trips, memory=memory), requests, attention)
    behind = WARMING.get(program)
    assert 1 <= behind < requests
    observations = prompts(plain, requests + 3, seed)
    robot = Reference(program)
    made = [robot.step(observed)["action"] for observed in observations]
    for one, other in zip(made[behind:], wanted(plain, observations), strict=False):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("requests", [2, 3])
def test_a_denoise_loop_overlaps_too(requests: int) -> None:
    """Its observation and its prefix are handed on; every trip has a noise level of its own."""
    plain, program = flow_program(), overlapped(flow_program(), requests)
    behind = WARMING.get(program)
    observations = [flow_observation(seed) for seed in range(requests + 3)]
    robot = Reference(program)
    made = [robot.step(observed)["action"] for observed in observations]
    for one, other in zip(made[behind:], wanted(plain, observations), strict=False):
        np.testing.assert_allclose(one, other, atol=1e-5)


@given(trips=st.integers(2, 40), more=st.integers(0, 39), prefilled=st.booleans())
def test_every_trip_runs_once_and_in_order(trips: int, more: int, prefilled: bool) -> None:
    course = Course(trips, min(more, trips - 1), prefilled)
    order = [
        course.trip(age, number) for age in range(course.ticks) for number in range(course.more + 1)
    ]
    assert [trip for trip in order if trip is not None] == list(range(trips))
    assert course.last_pass(course.ticks - 1) is not None


@given(trips=st.integers(1, 40), requests=st.integers(2, 41), prefilled=st.booleans())
def test_a_course_has_no_more_requests_than_asked_for(
    trips: int, requests: int, prefilled: bool
) -> None:
    if requests > trips + prefilled:
        with pytest.raises(PassError, match="requests in flight: a loop of"):
            course_of(trips, requests, prefilled)
        return
    found = course_of(trips, requests, prefilled)
    assert 2 <= found.ticks <= requests
    assert found.more == 0 or Course(trips, found.more - 1, prefilled).ticks > requests


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_same_on_either_side_of_a_cut(seed: int) -> None:
    program = overlapped(token_program(seed, 3, memory=True), 3)
    observations = prompts(program, 5, seed)
    robot = Reference(program)
    expected = [robot.step(observed)["action"] for observed in observations]
    plan, engines = deployed(program, seed)
    made = run_episode(plan, engines, 0, observations, initial_of(program))
    for one, other in zip(made, expected, strict=True):
        assert one.action["action"].tobytes() == other.tobytes()


def test_a_bundle_warms_up_and_says_how_old_an_action_is(tmp_path: Path) -> None:
    target = Target("jetson-agx-orin", "a100", "1GB/s,0.1ms", pin=("*=edge",), in_flight=4)
    _, bundle = compile_program(token_program(5), target, tmp_path / "b.vlacut")
    assert bundle.plan.warming == 3
    observations = prompts(token_program(5), 6)
    expected = wanted(token_program(5), observations)
    with vlacut.connect(bundle.root) as robot:
        for _ in range(2):  # a reset drops what is in flight
            robot.reset()
            for number, observed in enumerate(observations):
                made = robot.step(observed, captured_ns=number * TICK_NS)
                assert robot.last.warming is (number < 3)
                if number < 3:
                    assert made == {}
                    continue
                np.testing.assert_allclose(made["action"], expected[number - 3], atol=1e-5)
                assert robot.last.made.captured_ns == (number - 3) * TICK_NS


def test_requests_in_flight_attend_as_a_batch() -> None:
    """All trips over their caches at once, the prefill, which sees the prompt alone, beside them;
    the masks say how far each trip is.
    """
    programs = [overlapped(token_program(7, 4), 5, one) for one in ("alone", "batched")]
    kinds = [
        Counter(node.op_type for phase in program.phases for node in phase.model.graph)
        for program in programs
    ]
    assert (kinds[0]["Softmax"], kinds[1]["Softmax"]) == (2 * 5, 2 * 2)
    for program in programs:
        found = weights_read(program.phases[0].model.graph)
        assert len(found) == 10
        assert set(found.values()) == {1}  # by the prefill and all trips together
    assert any(
        "8 products that begin an attention are 2 batches" in line for line in notes(programs[1])
    )


def notes(program: Program) -> tuple[str, ...]:
    return NOTES.get(program)


def weights_read(graph: ir.Graph) -> Counter[str]:
    """How many products read each weight."""
    found: Counter[str] = Counter()
    for node in graph:
        maker = node.inputs[1].producer() if node.op_type == "MatMul" else None
        if maker is not None and maker.op_type == "Transpose" and maker.inputs[0].is_initializer():
            found[maker.inputs[0].name] += 1
    return found


def test_eight_bits_with_a_scale_of_all_are_joined() -> None:
    """Each is rounded once, as one request's are."""
    counts = {}
    for shared in (False, True):
        program = token_program(1, 3, width=64)
        Quantise("int8", shared=shared).run(program)
        plain = copied(program)
        overlapped(program, 4)
        kinds = [node.op_type for phase in program.phases for node in phase.model.graph]
        counts[shared] = kinds.count("QuantizeLinear")
        observations, robot = prompts(plain, 6, 1), Reference(program)
        made = [robot.step(observed)["action"] for observed in observations]
        for one, other in zip(made[3:], wanted(plain, observations), strict=False):
            np.testing.assert_allclose(one, other, atol=1e-5)
    assert counts == {False: 40, True: 10}


def test_a_bound_on_age_is_kept() -> None:
    """The plan says how old the action in force is; a bound just below that is refused."""
    target = Target("jetson-agx-orin", "a100", "1GB/s,0.1ms", pin=("*=edge",), in_flight=4)
    plan = plan_program(token_program(5), target).plan
    assert plan.age_s == pytest.approx(4.5 * plan.variants[0].price.total_s)
    kept = replace(target, max_age=f"{plan.age_s * 1.001 * 1e6}us")
    assert plan_program(token_program(5), kept).plan.age_s == pytest.approx(plan.age_s)
    with pytest.raises(InputError, match="have fewer requests --in-flight"):
        plan_program(token_program(5), replace(target, max_age=f"{plan.age_s * 0.999 * 1e6}us"))


class Clock:
    """Time that passes only while somebody sleeps, a little more in every look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 10**12
        monkeypatch.setattr(time, "sleep", self.sleep)
        monkeypatch.setattr(time, "perf_counter_ns", self.look)
        monkeypatch.setattr(time, "perf_counter", lambda: self.look() * 1e-9)

    def look(self) -> int:
        self.now_ns += 500
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += max(0, round(seconds * 1e9))


@pytest.mark.parametrize(
    ("requests", "draft", "passes"),
    [(0, "", 3), (4, "", 1), (2, "", 2), (0, "last", 1)],
    ids=["trip by trip", "a pass", "passes", "drafts"],
)
def test_ages_on_the_twin_are_those_that_are_priced(
    requests: int, draft: str, passes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real runtime on an emulated robot, steps one after the other, and --max-age is kept."""
    on_edge = Target("jetson-agx-orin", "a100", "1GB/s,0.1ms", pin=("*=edge",))
    target = replace(on_edge, in_flight=requests, draft=draft)
    program = token_program(5, 3, layers=1, width=256)
    planned, bundle = compile_program(
        program, target, tmp_path / "b", backend="emulated", golden=False
    )
    assert next((way.passes for way in planned.ways if way.taken), 3) == passes
    observed = prompts(program, 1)[0]
    with vlacut.connect(bundle.root, emulate=True) as robot:
        clock, ages, returned = Clock(monkeypatch), list[float](), list[int]()
        for _ in range(planned.plan.warming + 12):
            robot.step(observed, captured_ns=clock.now_ns)
            if not robot.last.warming:
                ages.append(robot.last.age_s)
                returned.append(clock.now_ns)
        monkeypatch.undo()
    used_s = np.diff(returned) * 1e-9
    in_force = float(np.average(np.array(ages[:-1]) + used_s / 2, weights=used_s))
    assert in_force == pytest.approx(planned.plan.age_s, rel=0.05)
    bound = f"{planned.plan.age_s * 1.05e6}us"
    kept = plan_program(token_program(5, 3, layers=1, width=256), replace(target, max_age=bound))
    assert in_force <= kept.plan.age_s * 1.05


def test_what_is_in_flight_is_lost_with_the_state() -> None:
    """A step that had to build on the initial state has no action of an earlier observation."""
    flight = Flight(2)
    rules = [StateRule.RESET, *[StateRule.KEPT] * 3, StateRule.RESET, *[StateRule.KEPT] * 2]
    made = [
        flight.answered(Made({"action": np.ones(1)}, Source.CHOSEN, step, Tally(), rule=rule))
        for step, rule in enumerate(rules)
    ]
    assert [bool(one.action) for one in made] == [False, False, True, True, False, False, True]
    assert [one.captured_ns for one in made if one.action] == [0, 1, 4]


def test_what_cannot_overlap_is_refused() -> None:
    with pytest.raises(PassError, match="has 2 to 4 at a time"):
        InFlight(9).run(token_program(1))
    with pytest.raises(PassError, match="did you mean decode"):
        InFlight(2, loop="decoed").run(token_program(1))
    remembering = next(one for one in map(random_stateful, range(20)) if one.state)
    with pytest.raises(PassError, match="requests cannot overlap"):
        InFlight(2).run(remembering)
    plain = token_program(1)
    plain.phases = (plain.phases[0], plain.phases[2])
    with pytest.raises(PassError, match="no phase has trips"):
        InFlight(2).run(plain)
    with pytest.raises(InputError, match="leave one out"):
        Target("jetson-agx-orin", "a100", "1GB/s", draft="last", in_flight=2).check()
