"""Programs that remember, served: actions are those of the uncut program in a plain loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from support.cutting import Reference
from support.deployments import DIGEST, initial_of, pool_deployment, served
from support.programs import observation, random_stateful

from vlacut.hardware import Side
from vlacut.ir.program import Program
from vlacut.plans.instructions import Run, Transfer, flatten
from vlacut.plans.plan import Plan, Variant
from vlacut.plans.state import StateRule
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.network.selectors import AtRandom

STEPS = 20
PATIENT_S = 60.0  # that no side gives a connection up on a loaded machine: bytes are then exact


def same(action: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    for name, array in expected.items():
        np.testing.assert_array_equal(action[name], array)


@pytest.mark.parametrize("seed", range(40))
def test_any_pool_switched_at_random_remembers(seed: int) -> None:
    drive(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40, 540))
def test_many_pools_switched_at_random_remember(seed: int) -> None:
    drive(seed)


def drive(seed: int, program: Program | None = None) -> None:
    program = program or random_stateful(seed)
    plan, engines = pool_deployment(program, seed)
    given = initial_of(program)
    reference = Reference(program)
    numbers = np.random.default_rng(seed)
    before = None
    with (
        served(plan, engines, initial=given, timeout=PATIENT_S) as server,
        EdgeSession(
            *(plan, DIGEST, engines, server.address, PATIENT_S),
            selector=AtRandom(len(plan.variants), seed),
            initial=given,
        ) as policy,
    ):
        for number in range(STEPS):
            first = number == 0 or numbers.random() < 0.1
            if first:
                policy.reset()
                reference.reset()
            observed = observation(program, number)
            action = policy.step(observed)
            same(action, reference.step(observed))
            report = policy.last
            assert report.retries == 0, "a connection failed: see test_state_lost"
            variant = next(at for at, one in enumerate(plan.variants) if one.name == report.variant)
            if not plan.states:
                assert report.state is StateRule.NONE
            elif first:
                assert report.state is StateRule.RESET
            else:
                assert report.state in (StateRule.KEPT, StateRule.MOVED)
                assert before is not None
                if not plan.staying_keys:
                    moved = plan.move_bytes(before, variant)
                    cost = plan.variants[variant].price
                    crossed = report.bytes_up, report.bytes_down
                    assert crossed == (cost.bytes_up + moved[0], cost.bytes_down + moved[1])
            before = variant


def on_weights_alone(program: Program, seed: int) -> Program:
    """What runs on reset reads nothing that is observed."""
    numbers = np.random.default_rng((seed, 6))
    phases = []
    for phase in program.phases:
        if phase.when == "reset":
            graph = phase.model.graph
            for value in list(graph.inputs):
                array = numbers.standard_normal((1, 8)).astype(np.float32)
                value.const_value = ir.tensor(array, name=value.name)
                graph.inputs.remove(value)
                graph.register_initializer(value)
            phase = replace(phase, trips=1, carried={})
        phases.append(phase)
    return replace(program, phases=tuple(phases))


def unasked(plan: Plan, variant: Variant) -> bool:
    """Whether the cloud runs something on reset before it has any tensor of the edge's."""
    cloud = {part.name for part in plan.parts if part.side is Side.CLOUD}
    for item in flatten(variant.first):
        if isinstance(item, Transfer) and item.source is Side.EDGE and item.tensors:
            return False
        if isinstance(item, Run) and item.part in cloud:
            return True
    return False


def test_a_cloud_that_needs_nothing_of_the_edge_on_reset_is_told_to_begin() -> None:
    """Through the real runtime: a frame that nobody sends is waited for until the time is out."""
    met = 0
    for seed in range(400):
        program = random_stateful(seed)
        if all(phase.when == "step" for phase in program.phases):
            continue
        program = on_weights_alone(program, seed)
        plan, _ = pool_deployment(program, seed)
        if not any(unasked(plan, variant) for variant in plan.variants):
            continue
        drive(seed, program)
        met += 1
        if met == 8:
            return
    raise AssertionError(f"only {met} of these programs have such a cut")
