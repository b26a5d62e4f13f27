"""draft: the greedy tokens whatever is drafted, and the trips that are right are not run again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cutting import Reference
from support.deployments import deployed, initial_of
from support.token_loops import WORDS, prompts, token_program

import vlacut
from vlacut.compiler.driver import compile_program
from vlacut.compiler.target import Target
from vlacut.errors import PassError
from vlacut.ir import verifier
from vlacut.ir.annotation import SECONDS
from vlacut.ir.program import Program
from vlacut.runtime.local import run_episode
from vlacut.tensor.drafts import accepted, drafter, parse_draft
from vlacut_passes.annotate_cost import AnnotateCost
from vlacut_passes.draft import Draft
from vlacut_passes.pack import Pack
from vlacut_passes.simplify import Simplify


def drafted(
    seed: int, trips: int, memory: bool, source: str = "input", attention: str = "alone"
) -> Program:
    program = token_program(seed, trips, memory=memory)
    for one in (Draft(source, count=True), Simplify(), Pack(attention)):
        one.run(program)
        verifier.verify(program)
    return program


def tokens_read(program: Program, observed: dict[str, np.ndarray]) -> np.ndarray:
    """The token that each trip of the plain loop reads: [trips, 1, 1]."""
    reference = Reference(program)
    prefill, decode, _ = program.phases
    names = prefill.output_names
    found = reference.engines["prefill"].run(
        None, {name: observed[name] for name in prefill.input_names}
    )
    held = {**observed, **dict(zip(names, found, strict=True))}
    read = []
    for _ in range(decode.trips):
        read.append(held["token"])
        made = reference.engines["decode"].run(None, {one: held[one] for one in decode.input_names})
        outputs = dict(zip(decode.output_names, made, strict=True))
        held |= {into: outputs[output] for output, into in decode.carried.items()}
    return np.stack(read)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    trips=st.integers(2, 4),
    memory=st.booleans(),
    attention=st.sampled_from(["alone", "batched"]),
    data=st.data(),
)
def test_the_tokens_are_greedy_whatever_is_drafted(
    seed: int, trips: int, memory: bool, attention: str, data: st.DataObject
) -> None:
    plain = token_program(seed, trips, memory=memory)
    program = drafted(seed, trips, memory, attention=attention)
    reference, robot = Reference(plain), Reference(program)
    for observed in prompts(plain, 3, seed):
        truth = tokens_read(plain, observed)
        right = data.draw(st.integers(0, trips), "how many are right")
        others = data.draw(st.lists(st.integers(-9, WORDS + 9), min_size=trips, max_size=trips))
        first = np.arange(trips)[:, None, None] < right
        draft = np.where(first, truth, np.array(others)[:, None, None])
        made = robot.step({**observed, "draft": draft})
        reference.reset()
        wanted = reference.step(observed)
        clipped = np.clip(draft, 0, WORDS - 1).reshape(-1)
        agree = [*(clipped == truth.reshape(-1)), False]
        assert made.pop("accepted") == agree.index(False)
        np.testing.assert_array_equal(made["action"], wanted["action"])


@pytest.mark.parametrize("seed", range(3))
def test_the_last_tokens_are_the_drafts(seed: int) -> None:
    """A step like the one before has all its drafts right; the first of an episode has zeros."""
    plain, program = token_program(seed), drafted(seed, 3, False, "last")
    reference, robot = Reference(plain), Reference(program)
    for observed in prompts(plain, 2, seed):
        wanted = reference.step(observed)["action"]
        reference.reset()
        for turn in range(2):
            made = robot.step(observed)
            np.testing.assert_array_equal(made["action"], wanted)
            assert turn == 0 or made["accepted"] == 3


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    trips=st.integers(2, 4),
    source=st.sampled_from(
        ["velocity", "kalman", "kalman:0.01", "kalman:1e6", "chunk:1", "chunk:2:3"]
    ),
)
def test_every_source_drafts_as_its_formula_says_and_stays_greedy(
    seed: int, trips: int, source: str
) -> None:
    """Drafts of the steps before, some of which are alike: what is right is counted alike."""
    plain, program = token_program(seed, trips), drafted(seed, trips, False, source)
    reference, robot = Reference(plain), Reference(program)
    seen = prompts(plain, 2, seed)
    draft = np.zeros((trips, 1, 1), np.int64)
    formula = drafter(parse_draft(source))
    for number in (0, 0, 1, 0, 1, 1, 1):
        made, wanted = robot.step(seen[number]), reference.step(seen[number])
        reference.reset()
        np.testing.assert_array_equal(made["action"], wanted["action"])
        said = tokens_read(plain, seen[number])
        assert made["accepted"] == accepted(np.clip(draft, 0, WORDS - 1), said)
        draft = formula.follow(said)


def test_every_weight_is_read_once_for_the_prefill_and_all_trips() -> None:
    program = drafted(1, 4, False)
    graph = program.phases[0].model.graph
    found: Counter[str] = Counter()
    for node in graph:
        if node.op_type == "MatMul" and node.inputs[1].producer() is not None:
            maker = node.inputs[1].producer()
            if maker.op_type == "Transpose" and maker.inputs[0].is_initializer():
                found[maker.inputs[0].name] += 1
    assert set(found.values()) == {1}
    assert len(found) == 10


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_same_on_either_side_of_a_cut(seed: int) -> None:
    program = drafted(seed, 3, True, "last")
    observations = [each for each in prompts(program, 2, seed) for _ in range(2)]
    robot = Reference(program)
    wanted = [robot.step(observed) for observed in observations]
    plan, engines = deployed(program, seed)
    made = run_episode(plan, engines, 0, observations, initial_of(program))
    for one, other in zip(made, wanted, strict=True):
        assert one.action["action"].tobytes() == other["action"].tobytes()
        assert one.action["accepted"] == other["accepted"]


def test_a_bundle_drafts(tmp_path: Path) -> None:
    """Through the compiler and the runtime: the actions of the plain program, step after step."""
    target = Target("jetson-agx-orin", "a100", "1GB/s,0.1ms", pin=("*=edge",), draft="last")
    planned, bundle = compile_program(token_program(5), target, tmp_path / "b.vlacut")
    assert any("products of" in line for line in planned.notes)
    reference = Reference(token_program(5))
    with vlacut.connect(bundle.root) as robot:
        for observed in [each for each in prompts(reference.program, 3) for _ in range(2)]:
            reference.reset()
            wanted = reference.step(observed)["action"]
            np.testing.assert_array_equal(robot.step(observed)["action"], wanted)


def test_what_cannot_be_drafted_is_refused() -> None:
    program = token_program(1)
    with pytest.raises(PassError, match="draft 'hope': write last"):
        Draft("hope").run(program)
    with pytest.raises(PassError, match="did you mean decode"):
        Draft(loop="decoed").run(program)
    program.phases = (program.phases[0], *program.phases[2:])
    with pytest.raises(PassError, match="no loop feeds back its own argmax"):
        Draft().run(program)


def test_the_price_has_the_trips_that_drafts_leave() -> None:
    """Of 3 trips, of which so many drafts are right on average."""
    seconds = {}
    for right in (0.0, 0.875, 3.0):
        program = token_program(1, 3)
        Draft("input", right=right).run(program)
        AnnotateCost(edge="jetson-agx-orin", cloud="a100").run(program)
        graph = program.phases[0].model.graph
        seconds[right] = sum(SECONDS.get(node).edge for node in graph)
    trips = seconds[0.0] - seconds[3.0]
    assert trips > 0
    assert seconds[0.0] - seconds[0.875] == pytest.approx(trips * (0.875 / 3), rel=1e-6)
    with pytest.raises(PassError, match="4 of 3 drafts are right"):
        Draft(right=4.0).run(token_program(1, 3))


def test_weights_of_the_loop_stay_by_name() -> None:
    plain, program = token_program(2), drafted(2, 3, False)
    names = {name for phase in plain.phases for name in weights(phase.model)}
    assert {name for phase in program.phases for name in weights(phase.model)} >= names - {"zero"}


def weights(model: ir.Model) -> list[str]:
    return [name for name in model.graph.initializers if "." not in name or name[0].isdigit()]
