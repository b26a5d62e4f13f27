"""Loops whose changes of side all lead one way: what they cost, and that the search knows."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from support.random_graphs import all_cuts, in_turn, random_graph, random_link, slow_totals
from support.slow import quick
from support.slow_overlap import walk_s

from vlacut.bundle.serde import from_json, to_json
from vlacut.hardware import Link, Side, link_at
from vlacut.pricing.cost_graph import CostGraph, Dependency, Flow, Task, When
from vlacut.pricing.dominance import crossings
from vlacut.pricing.phase_loops import Pipelined
from vlacut.pricing.price import Price, price
from vlacut_passes.partitioning.solver.problem import directions
from vlacut_passes.partitioning.solver.problem.make_problem import make_problem
from vlacut_passes.partitioning.solver.search import optimal_cut

EDGE, CLOUD = Side.EDGE, Side.CLOUD
TRIPS = 5


def denoiser(nbytes: int = 10, expert: tuple[float, float] = (50.0, 3.0)) -> CostGraph:
    """A counter, an embedding of the time, and an expert that carries its noisy action."""
    tasks = (
        Task("observation", -1, 0.0, 0.0, (), EDGE),
        Task("count", 0, 1.0, 1.5),
        Task("embed", 0, 1.0, 2.0),
        Task("expert", 0, *expert),
        Task("action", 1, 0.0, 0.0, (), EDGE),
    )
    before = TRIPS - 1
    flows = (
        Flow("noise", 0, (3,), 20, 1),
        Flow("count", 1, (2,), 1, 1),
        Flow("count", 1, (1, 2), 1, before, before_last=True),
        Flow("embed", 2, (3,), nbytes, 1),
        Flow("embed", 2, (3,), nbytes, before, before_last=True),
        Flow("expert", 3, (4,), 20, 1),
        Flow("expert", 3, (3,), 20, before, before_last=True),
    )
    uses = [(0, 1, When.INITIAL), (1, 1, When.CARRIED), (1, 2, When.WITHIN), (2, 3, When.WITHIN)]
    uses += [(0, 3, When.INITIAL), (3, 3, When.CARRIED), (3, 4, When.INITIAL)]
    return CostGraph(tasks, flows, tuple(Dependency(*use) for use in uses), (), (TRIPS,))


AHEAD = (EDGE, EDGE, EDGE, CLOUD, EDGE)  # the counter runs ahead of the expert
BACK = (EDGE, EDGE, CLOUD, EDGE, EDGE)  # up for the embedding, down for the expert, every trip


@pytest.mark.parametrize(
    ("nbytes", "longest"), [(10, 3.0), (10_000, 10_000 / 1000)], ids=["compute", "link"]
)
def test_later_trips_take_the_longest_of_both_sides_and_the_link(
    nbytes: int, longest: float
) -> None:
    graph, link = denoiser(nbytes), Link(1000.0, 1000.0, 4.0)
    found = price(graph, AHEAD, link)
    assert found.hops == 2
    first_s = 2.0 + nbytes / 1000 + 3.0
    assert found.total_s == pytest.approx(0.04 + 4.0 + first_s + (TRIPS - 1) * longest)
    assert found.total_s >= walk_s(graph, list(AHEAD), link)
    waiting = price(in_turn(graph), AHEAD, link)
    assert waiting.hops == found.hops + TRIPS - 1
    assert waiting.overlap_s == 0


def test_a_loop_that_crosses_both_ways_waits_in_every_trip() -> None:
    graph, link = denoiser(), Link(1000.0, 1000.0, 4.0)
    found = price(graph, BACK, link)
    assert (found.hops, found.overlap_s) == (2 * TRIPS, 0.0)
    assert found.total_s == pytest.approx(walk_s(graph, list(BACK), link))


def test_a_loop_whose_carried_value_crosses_waits() -> None:
    """The same leads one way: the counter's value goes up, but for the next trip."""
    graph = denoiser()
    found = price(graph, (EDGE, EDGE, CLOUD, CLOUD, EDGE), Link(1.0, 1.0, 4.0))
    assert found.hops == 2
    carried = Dependency(1, 3, When.CARRIED)
    graph = replace(graph, dependencies=(*graph.dependencies, carried))
    found = price(graph, (EDGE, EDGE, CLOUD, CLOUD, EDGE), Link(1.0, 1.0, 4.0))
    assert (found.hops, found.overlap_s) == (2 + TRIPS - 1, 0.0)


def test_the_search_lets_a_side_run_ahead_where_that_is_fastest() -> None:
    graph, link = denoiser(), Link(1000.0, 1000.0, 4.0)
    found = optimal_cut(graph, link)
    assert (found.sides, found.gap) == (AHEAD, 0.0)
    totals, _ = slow_totals(graph, link, all_cuts(graph))
    assert found.value == pytest.approx(totals.min())
    assert optimal_cut(in_turn(graph), link).sides != AHEAD


def several(trips: tuple[int, ...]) -> CostGraph:
    """Loops in a row: in each an encoder runs ahead of an expert that carries its own value."""
    tasks = [Task("observation", -1, 0.0, 0.0, (), EDGE)]
    flows = [Flow("observation", 0, (1,), 20, 1)]
    uses = []
    for phase, count in enumerate(trips):
        encode, expert = len(tasks), len(tasks) + 1
        tasks += [Task("encode", phase, 1.0 * count, 9.0 * count)]
        tasks += [Task("expert", phase, 9.0 * count, 1.0 * count)]
        uses += [(encode - 1, encode, When.INITIAL), (encode, expert, When.WITHIN)]
        uses += [(expert, expert, When.CARRIED)]
        flows += [Flow("encode", encode, (expert,), 10, 1)]
        flows += [Flow("encode", encode, (expert,), 10, count - 1, before_last=True)]
        flows += [Flow("expert", expert, (expert + 1,), 10, 1)]
    end = len(tasks)
    tasks += [Task("action", len(trips), 0.0, 0.0, (), EDGE)]
    uses += [(end - 1, end, When.INITIAL)]
    return CostGraph(tuple(tasks), tuple(flows), tuple(Dependency(*use) for use in uses), (), trips)


def test_of_many_loops_those_with_the_most_trips_lead() -> None:
    graph, link = several((2, 5, 3, 4, 2)), Link(1000.0, 1000.0, 0.5)
    leading = [loop.phase for loop in graph.columns.loops if loop.may_lead]
    assert leading == [1, 2, 3]
    assert len(list(directions.all_directions(graph))) == 3 ** len(leading)
    ahead = [EDGE, *(EDGE, CLOUD) * 5, EDGE]
    found = price(graph, ahead, link)
    assert [one.times for one in found.parallel if isinstance(one, Pipelined)] == [4, 2, 3]
    best = optimal_cut(graph, link)
    totals, _ = slow_totals(graph, link, all_cuts(graph))
    assert best.gap == 0.0
    assert best.value == pytest.approx(totals.min())
    assert [one.times for one in best.price.parallel if isinstance(one, Pipelined)] == [4, 2, 3]


def test_prices_over_other_links_and_where_they_change_places() -> None:
    graph, link = denoiser(3000), Link(1000.0, 500.0, 4.0)
    found = price(graph, AHEAD, link)
    for rate in (1.0, 300.0, 1000.0, 1500.0, 1e5):
        other = link_at(link, 1 / rate)
        assert found.over(other) == pytest.approx(price(graph, AHEAD, other).total_s)
    (bend,) = found.bends(link)  # where the link takes as long as the expert
    assert 3000 * bend == pytest.approx(3.0)
    alone = price(graph, (EDGE,) * 5, link)
    (place,) = crossings(found, alone, link)
    at = link_at(link, place)
    assert found.over(at) == pytest.approx(alone.over(at))
    assert from_json(Price, json.loads(json.dumps(to_json(found))), "price") == found


def test_no_walk_of_a_loop_that_leads_one_way_takes_longer_than_its_price() -> None:
    """And many take as long. Sections apart: `test_overlap` has those."""
    ahead, tight = 0, 0
    for seed in range(3000):
        numbers = np.random.default_rng(seed)
        graph, link = random_graph(numbers), random_link(numbers)
        if len(graph.trips) > 1 or graph.trips == (1,):
            continue
        cuts = all_cuts(graph)
        for row in numbers.integers(0, len(cuts), 4):
            sides = [CLOUD if one else EDGE for one in cuts[row]]
            found = price(graph, sides, link)
            if len(found.parallel) == 1 and isinstance(found.parallel[0], Pipelined):
                walked = walk_s(graph, sides, link)
                assert walked <= found.total_s * (1 + 1e-9) + 1e-12, seed
                ahead += 1
                tight += walked >= found.total_s * (1 - 1e-9)
    assert ahead > 100
    assert tight > 20


def test_a_core_held_to_ways_has_the_price_of_its_cuts_and_only_those() -> None:
    """Of every cut, some problem has the price, and no problem has less."""
    several = 0
    for seed in range(400):
        numbers = np.random.default_rng(seed)
        graph, link = random_graph(numbers), random_link(numbers)
        if max(graph.trips) == 1:
            continue
        problems = [make_problem(graph, link, held) for held, _ in directions.all_directions(graph)]
        cuts = all_cuts(graph)
        for row in numbers.integers(0, len(cuts), 5):
            found = price(graph, [CLOUD if one else EDGE for one in cuts[row]], link)
            saved = (one for one in found.parallel if isinstance(one, Pipelined))
            total_s = found.serial_s - sum(one.saved_s(link) for one in saved)
            least = []
            for problem in problems:
                x = problem.of_tasks(cuts[row])
                if x is not None:
                    least.append(problem.serial_s(x) + problem.peak_s(x))
            several += len(least) > 1
            assert min(least) == pytest.approx(total_s, rel=1e-12, abs=1e-12), seed
    assert several > 50


@pytest.mark.parametrize("most_splits", [64, 0], ids=["by splits", "loops as they are"])
@pytest.mark.parametrize(
    "seeds",
    quick([range(5000, 5150), range(5150, 5600)], range(5000, 5150)),
    ids=["150", "450"],
)
def test_the_optimum_of_programs_with_loops_is_brute_forces(
    seeds: range, most_splits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directions, "_MOST_SPLITS", most_splits)
    ahead = 0
    for seed in seeds:
        numbers = np.random.default_rng(seed)
        graph, link = random_graph(numbers), random_link(numbers)
        if max(graph.trips) == 1:
            continue
        totals, _ = slow_totals(graph, link, all_cuts(graph))
        found = optimal_cut(graph, link)
        assert found.value == pytest.approx(totals.min(), rel=1e-12, abs=1e-12), seed
        assert found.gap <= 1e-9, seed
        ahead += any(isinstance(one, Pipelined) for one in found.price.parallel)
    assert ahead > len(seeds) / 30
