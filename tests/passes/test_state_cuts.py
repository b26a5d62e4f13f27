"""Programs with state, cut: prices and optima are those of brute force."""

from __future__ import annotations

import numpy as np
import pytest
from support.random_graphs import all_cuts, random_graph, random_link, remembering, slow_totals

from vlacut.hardware import Side
from vlacut.pricing.price import price
from vlacut_passes.partitioning.limits import Limits
from vlacut_passes.partitioning.solver.search import optimal_cut

NEAR = 1e-9


def check(seed: int, free: int) -> bool:
    """Whether the optimum of a random graph is that of all cuts; if state decides where it is."""
    numbers = np.random.default_rng((seed, 17))
    plain = random_graph(numbers, free)
    graph, link = remembering(numbers, plain), random_link(numbers)
    cuts = all_cuts(graph)
    totals, held = slow_totals(graph, link, cuts)
    for row in numbers.integers(0, len(cuts), 3):
        sides = [Side.CLOUD if one else Side.EDGE for one in cuts[row].tolist()]
        assert price(graph, sides, link).total_s == pytest.approx(totals[row], rel=NEAR, abs=NEAR)
    budget = int(numbers.integers(0, sum(graph.weights) + 1)) if numbers.random() < 0.5 else None
    allowed = held <= (np.inf if budget is None else budget)
    if not allowed.any():
        return False
    found = optimal_cut(graph, link, Limits(cloud_bytes=budget))
    assert found.value == pytest.approx(totals[allowed].min(), rel=NEAR, abs=NEAR)
    assert found.bound == pytest.approx(found.value, rel=NEAR, abs=NEAR)
    without, _ = slow_totals(plain, link, cuts)
    best = np.isclose(without, without[allowed].min(), rtol=NEAR, atol=NEAR) & allowed
    return bool(totals[best].min() > totals[allowed].min() + NEAR)


@pytest.mark.parametrize("block", range(2))
def test_the_optimum_with_state_is_brute_forces(block: int) -> None:
    changed = sum(check(seed, 3 + seed % 4) for seed in range(40 * block, 40 * block + 40))
    assert changed  # state is seen to move the optimum


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_the_optimum_with_state_is_brute_forces_five_hundred_times(block: int) -> None:
    assert sum(check(1000 + 50 * block + each, 3 + each % 7) for each in range(50))
