"""The search equals brute force; every strategy is a legal cut and never beats the optimum."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from support.random_graphs import (
    all_cuts,
    chain_graph,
    in_turn,
    random_graph,
    random_link,
    slow_totals,
)
from support.slow import quick

from vlacut.errors import InfeasibleError
from vlacut.hardware import Link, Power, Side
from vlacut.pricing.cost_graph import CostGraph
from vlacut.pricing.price import price
from vlacut_passes.partitioning.layer_chain import layer_chain
from vlacut_passes.partitioning.limits import NAMES, Limits, Quantity, measured
from vlacut_passes.partitioning.solver import branch_and_bound
from vlacut_passes.partitioning.solver.branch_and_bound import BranchAndBound
from vlacut_passes.partitioning.solver.problem.make_problem import make_problem
from vlacut_passes.partitioning.solver.problem.problem import relabel, within_limits
from vlacut_passes.partitioning.solver.search import optimal_cut
from vlacut_passes.partitioning.strategies import baselines, strategy_cut

EDGE, CLOUD = Side.EDGE, Side.CLOUD


def case(seed: int, free: int | None = None) -> tuple[CostGraph, Link, int | None]:
    """A graph, a link, and in more than half of the cases a budget."""
    numbers = np.random.default_rng(seed)
    graph, link = random_graph(numbers, free), random_link(numbers)
    unlimited = numbers.random() < 0.4
    return graph, link, None if unlimited else int(numbers.integers(0, sum(graph.weights) + 2))


def check_against_brute_force(seed: int, free: int | None = None) -> None:
    graph, link, budget = case(seed, free)
    totals, held = slow_totals(graph, link, all_cuts(graph))
    allowed = np.full(len(totals), True) if budget is None else held <= budget
    if not allowed.any():
        with pytest.raises(InfeasibleError, match="more than the limit"):
            optimal_cut(graph, link, Limits(cloud_bytes=budget))
        return
    best = float(totals[allowed].min())
    found = optimal_cut(graph, link, Limits(cloud_bytes=budget))
    assert found.price == price(graph, found.sides, link), seed
    assert found.price.total_s == pytest.approx(best, rel=1e-12, abs=1e-12), seed
    assert found.bound <= best * (1 + 1e-12), seed
    assert found.gap <= 1e-9, seed
    assert budget is None or found.price.cloud_weight_bytes <= budget, seed


def test_a_price_is_what_a_walk_through_every_trip_adds_up_to() -> None:
    for seed in range(400):
        graph, link, _ = case(seed)
        cuts = all_cuts(graph)
        totals, held = slow_totals(graph, link, cuts)
        for row in np.random.default_rng(seed).integers(0, len(cuts), 3):
            found = price(graph, [CLOUD if one else EDGE for one in cuts[row]], link)
            assert found.total_s == pytest.approx(totals[row], rel=1e-12, abs=1e-12), seed
            assert found.cloud_weight_bytes == held[row], seed


@pytest.mark.parametrize("block", quick(range(20), 0))
def test_the_optimum_is_brute_forces(block: int) -> None:
    for seed in range(100 * block, 100 * (block + 1)):
        check_against_brute_force(seed)


@pytest.mark.parametrize("block", quick(range(10), 0))
def test_branching_without_highs_finds_the_same(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("SMALL", 2), ("DEAR", 0.02), ("ROUNDED", 0)):
        monkeypatch.setattr(branch_and_bound, name, value)
    for seed in range(50 * block, 50 * (block + 1)):
        check_against_brute_force(seed)


@pytest.mark.slow
def test_what_probing_fixes_is_so_in_the_optimum(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SMALL", 2), ("DEAR", 0.02), ("ROUNDED", 0)):
        monkeypatch.setattr(branch_and_bound, name, value)
    fixed: list[int] = []
    probe = BranchAndBound._fixed

    def counted(search: BranchAndBound, branch: Any, choice: Any) -> list[tuple[int, int]]:
        found = probe(search, branch, choice)
        fixed.append(len(found))
        return found

    monkeypatch.setattr(BranchAndBound, "_fixed", counted)
    for seed in (266, 323, 724, 842, 871, 960, 1005, 1049, 1079, 1158):  # these branch most
        check_against_brute_force(seed, free=9 + seed % 3)
    assert np.count_nonzero(fixed) > 50


@pytest.mark.slow
def test_a_budget_is_kept_to_the_byte_whatever_its_size() -> None:
    """Cuts beside the budget differ from it by less than what HiGHS keeps a large limit to."""
    asked = 0
    for seed in range(150):
        graph, link, _ = case(seed, free=9)
        weights = tuple(10**9 * nbytes + index for index, nbytes in enumerate(graph.weights, 1))
        graph = dataclasses.replace(graph, weights=weights)
        totals, held = slow_totals(graph, link, all_cuts(graph))
        budget = int(np.random.default_rng(seed).choice(held)) - seed % 2
        if (held <= budget).any():
            found = optimal_cut(graph, link, Limits(cloud_bytes=budget))
            assert found.price.cloud_weight_bytes <= budget, seed
            best = totals[held <= budget].min()
            assert found.value == pytest.approx(best, rel=1e-12, abs=1e-12), seed
            assert found.gap <= 1e-9, seed
            asked += 1
    assert asked > 100


def slow_quantities(graph: CostGraph, link: Link, cuts: np.ndarray) -> np.ndarray:
    """Latency, cloud time, and weights held in the cloud and on the edge: a row per cut."""
    totals, in_cloud = slow_totals(graph, link, cuts)
    cloud_s = sum(
        cuts[:, index] * task.cloud_s * graph.trips_of(index)
        for index, task in enumerate(graph.tasks)
    )
    _, on_edge = slow_totals(graph, link, 1 - cuts)
    columns = [totals, cloud_s + np.zeros(len(cuts)), in_cloud, on_edge]
    return np.stack([*columns, slow_energy(graph, cuts, totals)], axis=1)


def slow_energy(graph: CostGraph, cuts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Joules of the edge: a row per cut."""
    assert graph.power is not None
    joules = graph.power.idle_w * totals
    for index, task in enumerate(graph.tasks):
        busy_s = task.edge_s * graph.trips_of(index) * (1 - cuts[:, index])
        joules += (graph.power.busy_w - graph.power.idle_w) * busy_s
    for flow in graph.flows:
        home = cuts[:, flow.producer]
        away = (cuts[:, list(flow.consumers)] != home[:, None]).any(axis=1)
        rate = np.where(home == 0, graph.power.up_j_per_byte, graph.power.down_j_per_byte)
        joules += away * rate * flow.nbytes * flow.count
    return joules


def random_limits(numbers: np.random.Generator, found: np.ndarray) -> Limits:
    """Limits between the least and the most of each quantity, or none."""
    most: list[float | None] = []
    for column in found.T:
        limit = float(numbers.choice(column)) * float(numbers.choice([0.7, 1.0, 1.0]))
        most.append(limit if numbers.random() < 0.45 else None)
    sizes = [None if one is None else int(one) for one in most[2:4]]
    goals = (Quantity.LATENCY, Quantity.LATENCY, Quantity.CLOUD_TIME, Quantity.ENERGY)
    goal = goals[int(numbers.integers(len(goals)))]
    return Limits(goal, most[0], most[1], *sizes, most[4] if numbers.random() < 0.4 else None)


@pytest.mark.parametrize("block", quick(range(10), 0))
def test_the_optimum_within_limits_is_brute_forces(block: int) -> None:
    infeasible = 0
    for seed in range(10**5 + 50 * block, 10**5 + 50 * (block + 1)):
        numbers = np.random.default_rng(seed)
        graph, link = random_graph(numbers), random_link(numbers)
        power = Power(
            *np.sort(10 * numbers.random(2))[::-1].tolist(), *numbers.random(2), "made up"
        )
        graph = dataclasses.replace(graph, power=power)
        found = slow_quantities(graph, link, all_cuts(graph))
        limits = random_limits(numbers, found)
        kept = np.full(len(found), True)
        for column, most in zip(found.T, limits.most, strict=True):
            kept &= column <= (np.inf if most is None else most + 1e-12 * abs(most))
        if not kept.any():
            infeasible += 1
            with pytest.raises(InfeasibleError, match="more than the limit") as refused:
                optimal_cut(graph, link, limits)
            check_what_binds(str(refused.value), found, limits)
            continue
        best = float(found[kept, limits.minimise].min())
        cut = optimal_cut(graph, link, limits)
        assert cut.value == pytest.approx(best, rel=1e-11, abs=1e-12), seed
        assert cut.bound <= best + 1e-11 * abs(best) + 1e-12, seed
        assert cut.gap <= 1e-9, seed
        assert not limits.broken(cut.price), seed
    assert infeasible > 2


def check_what_binds(said: str, found: np.ndarray, limits: Limits) -> None:
    """Every limit named binds by as much as said, the other ones named being kept; no fewer do."""
    named = {}
    for part in said.removeprefix("no cut keeps these limits together: ").split("; ")[:-1]:
        name, _, rest = part.partition(": at least ")
        (quantity,) = (one for one in Quantity if NAMES[one] == name)
        named[quantity] = rest.partition(" with ")[0].partition(",")[0]
    for one, least in named.items():
        kept = np.full(len(found), True)
        for other in named:
            if other is not one:
                most = limits.most[other]
                assert most is not None
                kept &= found[:, other] <= most + 1e-12 * abs(most)
        assert kept.any()
        assert least == one.text(float(found[kept, one].min()))
        most = limits.most[one]
        assert most is not None
        assert not (found[kept, one] <= most).any()


def test_what_is_infeasible_says_which_limit_binds_and_by_how_much() -> None:
    graph = chain_graph([(1, 1), (2, 2), (3, 3)], [0, 0, 0, 0], [5, 7, 9])
    limits = Limits(cloud_bytes=12, edge_bytes=6)
    with pytest.raises(
        InfeasibleError,
        match=r"weights on the edge: at least 9 bytes with weights in the cloud at most 12 bytes, "
        r"3 bytes more than the limit of 6 bytes",
    ):
        optimal_cut(graph, Link(1.0, 1.0), limits)


def test_cloud_time_is_least_where_the_deadline_just_allows() -> None:
    graph = chain_graph([(4, 1), (6, 2), (8, 1)], [0, 0, 0, 0], [0, 0, 0])
    for deadline, cloud_s in ((18.0, 0), (17.9, 1), (11.0, 1), (10.0, 2), (4.0, 4)):
        limits = Limits(Quantity.CLOUD_TIME, latency=deadline)
        assert optimal_cut(graph, Link(1.0, 1.0), limits).value == cloud_s
    with pytest.raises(InfeasibleError, match="the control step: at least 4000 ms"):
        optimal_cut(graph, Link(1.0, 1.0), Limits(Quantity.CLOUD_TIME, latency=3.9))


@pytest.mark.parametrize("block", quick(range(5), 0))
def test_out_of_time_the_cut_is_no_worse_than_any_strategy_and_the_bound_holds(
    block: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SMALL", "ROUNDED"):
        monkeypatch.setattr(branch_and_bound, name, 2)
    late = 0
    for seed in range(30 * block, 30 * (block + 1)):
        graph, link, budget = case(seed)
        limits = Limits(cloud_bytes=budget)
        try:
            best = optimal_cut(graph, link, limits).value
        except InfeasibleError:
            continue
        found = optimal_cut(graph, link, limits, effort=0.0)
        late += found.gap > 0
        assert 0 <= found.gap <= 1, seed
        assert found.bound <= best * (1 + 1e-12), seed
        for name, sides in baselines(graph, link, budget).items():
            row = strategy_cut(name, graph, sides, link, limits)
            assert not row.feasible or found.value <= row.price.total_s * (1 + 1e-12), seed
    assert late


@pytest.mark.slow
@pytest.mark.parametrize("block", range(30))
def test_the_optimum_of_larger_graphs_is_brute_forces(block: int) -> None:
    for seed in range(10**6 + 500 * block, 10**6 + 500 * (block + 1)):
        check_against_brute_force(seed, free=8 + seed % 6)


@pytest.mark.parametrize("block", quick(range(3), 0))
def test_the_search_answers_alike_every_time(block: int) -> None:
    for seed in range(20 * block, 20 * (block + 1)):
        graph, link, budget = case(seed)
        try:
            found = optimal_cut(graph, link, Limits(cloud_bytes=budget))
        except InfeasibleError:
            continue
        assert optimal_cut(graph, link, Limits(cloud_bytes=budget)) == found


def test_a_core_has_the_price_of_a_cut_and_keeps_it_when_variables_merge() -> None:
    """Tasks are put together at random; cuts that have each group on one side cost the same."""
    merged = 0
    for seed in range(300):
        graph, link, _ = case(seed)
        graph = in_turn(graph)
        numbers = np.random.default_rng(seed)
        power = Power(9.0, float(numbers.integers(0, 9)), *numbers.random(2).tolist(), "test")
        graph = dataclasses.replace(graph, power=power if seed % 2 else None)
        limits = Limits(cloud_bytes=7, edge_bytes=7)
        core = within_limits(make_problem(graph, link), limits)
        label = np.concatenate([[0, 1], numbers.integers(0, core.size, core.size - 2)])
        label = np.unique(label, return_inverse=True)[1]
        small = relabel(core, label, int(label.max()) + 1)
        merged += small.size < core.size
        for _ in range(5):
            x = np.concatenate([[0, 1], numbers.integers(0, 2, small.size - 2)])
            tasks = x[small.of_task]
            found = price(graph, [CLOUD if one else EDGE for one in tasks], link)
            for one in (core, small):
                inside = one.of_tasks(tasks)
                assert inside is not None, seed
                same = one.quantities(inside, one.peak_s(inside))
                assert same == pytest.approx(measured(found), rel=1e-12, abs=1e-12), seed
    assert merged > 100


@pytest.mark.parametrize("block", quick(range(5), 0))
def test_a_faster_link_never_costs_more(block: int) -> None:
    for seed in range(30 * block, 30 * (block + 1)):
        graph, link, budget = case(seed)
        faster = dataclasses.replace(link, up=3 * link.up, down=2 * link.down, rtt=link.rtt / 2)
        try:
            slow = optimal_cut(graph, link, Limits(cloud_bytes=budget)).price.total_s
        except InfeasibleError:
            continue
        assert optimal_cut(graph, faster, Limits(cloud_bytes=budget)).price.total_s <= slow * (
            1 + 1e-12
        ), seed


@pytest.mark.parametrize("block", quick(range(5), 0))
def test_no_strategy_within_the_budget_beats_the_optimum(block: int) -> None:
    for seed in range(60 * block, 60 * (block + 1)):
        graph, link, budget = case(seed)
        try:
            best = optimal_cut(graph, link, Limits(cloud_bytes=budget)).price.total_s
        except InfeasibleError:
            continue
        for name, sides in baselines(graph, link, budget).items():
            row = strategy_cut(name, graph, sides, link, Limits(cloud_bytes=budget))
            over = budget is not None and row.price.cloud_weight_bytes > budget
            assert row.feasible is not over, (seed, name)
            assert bool(row.why_not) is over, (seed, name)
            assert over or row.price.total_s >= best * (1 - 1e-12), (seed, name)


def test_neurosurgeon_is_the_cheapest_place_of_the_chain() -> None:
    for seed in range(200):
        graph, link, budget = case(seed)
        chain = layer_chain(graph)
        prices = [price(graph, chain.sides(place), link) for place in range(len(chain.order) + 1)]
        kept = [one for one in prices if budget is None or one.cloud_weight_bytes <= budget]
        if kept:
            found = price(graph, baselines(graph, link, budget)["neurosurgeon"], link)
            assert found.total_s == pytest.approx(min(one.total_s for one in kept)), seed


def test_the_optimum_may_cross_four_times() -> None:
    """Edge, cloud, edge, cloud, edge: what no single cut of a chain can say."""
    graph = chain_graph(
        [(1, 9), (9, 1), (1, 9), (9, 1), (1, 9)], [9, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0]
    )
    found = optimal_cut(graph, Link(10.0, 10.0, 0.2))
    assert found.sides == (EDGE, EDGE, CLOUD, EDGE, CLOUD, EDGE, EDGE)
    assert found.price.total_s == pytest.approx(5 + 4 * 0.1 + 4 * 0.1)
    assert (found.price.crossings, found.price.hops, found.gap) == (4, 4, 0.0)
    single = price(
        graph, baselines(graph, Link(10.0, 10.0, 0.2), None)["neurosurgeon"], Link(10, 10)
    )
    assert single.total_s > found.price.total_s


def test_equal_prices_prefer_the_edge() -> None:
    graph = chain_graph([(1, 1), (2, 2)], [0, 0, 0], [5, 5])
    assert optimal_cut(graph, Link(1.0, 1.0)).sides == (EDGE,) * 4


def test_a_budget_takes_the_layers_that_are_worth_most() -> None:
    graph = chain_graph([(3, 0), (5, 0), (4, 0)], [0, 0, 0, 0], [6, 9, 4])
    for budget, sides in ((10, None), (9, None), (13, None)):
        found = optimal_cut(graph, Link(1.0, 1.0), Limits(cloud_bytes=budget))
        assert found.price.cloud_weight_bytes <= budget
        expected = {10: 12 - 7, 9: 12 - 5, 13: 12 - 9}[budget]
        assert found.price.total_s == expected
        assert sides is None or found.sides == sides


def test_an_impossible_budget_says_by_how_much() -> None:
    graph = chain_graph([(1, 1), (2, 2)], [0, 0, 0], [5, 7])
    pinned = dataclasses.replace(graph.tasks[2], pinned=CLOUD)
    graph = dataclasses.replace(graph, tasks=(*graph.tasks[:2], pinned, graph.tasks[3]))
    with pytest.raises(
        InfeasibleError, match=r"at least 7 bytes, 4 bytes more than the limit of 3 bytes"
    ):
        optimal_cut(graph, Link(1.0, 1.0), Limits(cloud_bytes=3))
