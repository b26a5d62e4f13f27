"""Programs that remember, served: actions are those of the uncut program in a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from support.cutting import Reference
from support.deployments import DIGEST, initial_of, pool_deployment, served
from support.programs import observation, random_stateful

from vlacut.plans.state import StateRule
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.network.selectors import AtRandom

STEPS = 20


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


def drive(seed: int) -> None:
    program = random_stateful(seed)
    plan, engines = pool_deployment(program, seed)
    given = initial_of(program)
    reference = Reference(program)
    numbers = np.random.default_rng(seed)
    before = None
    with (
        served(plan, engines, initial=given) as server,
        EdgeSession(
            *(plan, DIGEST, engines, server.address),
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
