"""What the search's steps promise: states together, weights as a known cut has them, and probes."""

from __future__ import annotations

import os

import numpy as np
import pytest
from support.random_graphs import all_cuts, random_graph, random_link

from vlacut.hardware import Link
from vlacut.pricing.cost_graph import CostGraph
from vlacut_passes.partitioning.limits import Limits, Quantity, limited, within
from vlacut_passes.partitioning.solver.dual import Dual
from vlacut_passes.partitioning.solver.incumbent import Incumbent
from vlacut_passes.partitioning.solver.milp import chatter_aside
from vlacut_passes.partitioning.solver.planes import CuttingPlanes
from vlacut_passes.partitioning.solver.problem.depths import Span
from vlacut_passes.partitioning.solver.problem.make_problem import make_problem
from vlacut_passes.partitioning.solver.problem.problem import Problem, holding, within_limits
from vlacut_passes.partitioning.solver.serial import Hints
from vlacut_passes.partitioning.states import states


def cases(count: int) -> list[tuple[int, CostGraph, Link]]:
    """Random programs."""
    found = []
    for seed in range(count):
        numbers = np.random.default_rng(seed)
        found.append((seed, random_graph(numbers), random_link(numbers)))
    return found


def test_states_together_have_in_common_what_decides_all_of_them() -> None:
    several = 0
    for seed, graph, link in cases(1500):
        for region in graph.regions:
            inside = {task for branch in region.branches for task in branch}
            for one in states(graph, region, link):
                for state in one.several:
                    several += 1
                    assert set(one.sides) <= set(state.sides), seed
                    apart = {task for task, _ in set(state.sides) - set(one.sides)}
                    assert not apart & inside, seed
                    assert state.saved_s <= one.saved_s, seed
                    assert not state.several, seed
    assert several > 50


@pytest.mark.parametrize("quantity", [Quantity.CLOUD_BYTES, Quantity.EDGE_BYTES])
def test_who_holds_no_weights_but_those_of_a_cut_keeps_its_limit_at_its_price(
    quantity: Quantity,
) -> None:
    others = 0
    for seed, graph, link in cases(300):
        if not sum(graph.weights):
            continue
        cuts, whole = all_cuts(graph), make_problem(graph, link)
        known = cuts[seed % len(cuts)]
        problem = within_limits(whole, Limits())
        x = problem.of_tasks(known)
        assert x is not None
        most = int(problem_bytes(within_limits(whole, limited(Limits(), quantity, 0)), x, quantity))
        problem = within_limits(whole, limited(Limits(), quantity, most))
        held = holding(problem, x)
        assert held.limits.most[quantity] is None
        assert held.of_tasks(known) is not None, seed
        for row in np.random.default_rng(seed).integers(0, len(cuts), 20):
            inner, outer = held.of_tasks(cuts[row]), problem.of_tasks(cuts[row])
            if inner is not None and outer is not None:
                others += 1
                assert within(quantity, problem_bytes(problem, outer, quantity), most), seed
                assert held.serial_s(inner) + held.peak_s(inner) == pytest.approx(
                    problem.serial_s(outer) + problem.peak_s(outer), rel=1e-12, abs=1e-12
                ), seed
    assert others > 500


def problem_bytes(problem: Problem, x: np.ndarray, quantity: Quantity) -> int:
    """Bytes of weights on the side that is limited."""
    return problem.cloud_bytes(x) if quantity is Quantity.CLOUD_BYTES else problem.edge_bytes(x)


def test_the_first_layers_fill_the_budget_and_no_more() -> None:
    full = 0
    for seed, graph, link in cases(200):
        for budget in (0, sum(graph.weights) // 2, sum(graph.weights)):
            hints = Hints(graph, link, budget, None)
            x, columns = hints.first_layers(budget), graph.columns
            pinned = columns.pinned >= 0
            assert (x[pinned] == columns.pinned[pinned]).all(), seed
            least = columns.held_bytes(columns.pinned == 1)
            assert columns.held_bytes(x == 1) <= max(budget, least), seed
            rest = np.flatnonzero((x == 0) & ~pinned)
            if len(rest) and least <= budget:
                first = rest[np.argmin(hints.order.place[rest])]
                more = x == 1
                more[first] = True
                full += 1
                assert columns.held_bytes(more) > budget, seed
    assert full > 50


def test_a_probe_bounds_as_the_first_round_does_and_leaves_what_is_known() -> None:
    learnt = 0
    for seed, graph, link in cases(60):
        problem = within_limits(make_problem(graph, link), Limits())
        found = []
        for learn in (True, False):
            planes = CuttingPlanes([[] for _ in problem.chains])
            spans = [Span() for _ in problem.chains]
            dual = Dual(problem, Incumbent(1e9, None), planes, spans)
            found.append((dual.run(1, learn=learn).bound, len(planes.assignments)))
        assert found[0][0] == found[1][0], seed
        assert found[1][1] == 1, seed  # what it starts from
        learnt += found[0][1] - 1
    assert learnt > 20


def test_nothing_written_to_standard_output_meanwhile_is_heard(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with chatter_aside():
        os.write(1, b"chatter")
    os.write(1, b"answer")
    heard = capfd.readouterr()
    assert (heard.out, heard.err) == ("answer", "chatter")
