"""What sides save by working in parallel, against a walk of the schedule, and where they do."""

from __future__ import annotations

import numpy as np
import pytest
from support.random_graphs import all_cuts, random_graph, random_link
from support.slow_overlap import walk_s

from vlacut.hardware import Link, Side
from vlacut.pricing.cost_graph import CostGraph, Dependency, Flow, Task, When
from vlacut.pricing.price import price
from vlacut.split.pieces import places_of
from vlacut_passes.partitioning.solver.search import optimal_cut

EDGE, CLOUD = Side.EDGE, Side.CLOUD


def towers(image: int = 10, seconds: tuple[float, float] = (4.0, 3.0)) -> CostGraph:
    """Two towers on one image, joined, and a head: as DINOv2 and SigLIP in Prismatic."""
    tasks = (
        Task("observation", -1, 0.0, 0.0, (), EDGE),
        Task("dino", 0, seconds[0], seconds[0] / 4),
        Task("siglip", 0, seconds[1], seconds[1] / 4),
        Task("join", 0, 0.1, 0.1),
        Task("head", 0, 1.0, 0.5),
        Task("action", 1, 0.0, 0.0, (), EDGE),
    )
    flows = (
        Flow("image", 0, (1, 2), image, 1),
        Flow("dino", 1, (3,), 4, 1),
        Flow("siglip", 2, (3,), 4, 1),
        Flow("join", 3, (4,), 4, 1),
        Flow("head", 4, (5,), 1, 1),
    )
    uses = [(0, 1, When.INITIAL), (0, 2, When.INITIAL), (1, 3, When.WITHIN), (2, 3, When.WITHIN)]
    uses += [(3, 4, When.WITHIN), (4, 5, When.INITIAL)]
    return CostGraph(tasks, flows, tuple(Dependency(*use) for use in uses), (), (1,))


def test_towers_on_two_sides_take_as_long_as_the_longer() -> None:
    graph, link = towers(), Link(10.0, 10.0, 0.2)
    one = price(graph, (EDGE, EDGE, CLOUD, EDGE, EDGE, EDGE), link)
    # dino 4 s; siglip 1 s up + 0.1 s + 0.75 s + 0.4 s down + 0.1 s
    assert one.serial_s == pytest.approx(4 + 1 + 0.75 + 0.4 + 0.2 + 0.1 + 1)
    assert one.total_s == pytest.approx(4 + 0.1 + 1)
    joined = price(graph, (EDGE, EDGE, CLOUD, CLOUD, CLOUD, EDGE), link)
    # dino's result goes up at 4 s
    assert joined.total_s == pytest.approx(4 + 0.4 + 0.1 + 0.1 + 0.5 + 0.1 + 0.1)
    for found in (one, joined):
        for other in (Link(1.0, 3.0, 0.2), Link(100.0, 100.0, 0.0), Link(0.1, 0.1, 5.0)):
            sides = (EDGE, EDGE, CLOUD, *((EDGE,) * 3 if found is one else (CLOUD, CLOUD, EDGE)))
            assert found.over(other) == pytest.approx(price(graph, sides, other).total_s)
            assert found.over(other) == pytest.approx(walk_s(graph, list(sides), other))


def test_the_search_puts_towers_on_two_sides_where_that_is_fastest() -> None:
    graph, link = towers(seconds=(4.0, 9.0)), Link(10.0, 10.0, 0.2)
    found = optimal_cut(graph, link)
    assert found.sides[1] is not found.sides[2]
    assert found.gap == 0
    totals = [
        price(graph, [CLOUD if one else EDGE for one in cut], link).total_s
        for cut in all_cuts(graph)
    ]
    assert found.value == pytest.approx(min(totals))
    in_turn = [
        price(graph, [CLOUD if one else EDGE for one in cut], link).serial_s
        for cut in all_cuts(graph)
    ]
    assert found.value < min(in_turn)


def test_what_leads_to_branches_and_the_branches_are_parts_of_their_own() -> None:
    places = places_of(towers(), (EDGE, EDGE, CLOUD, CLOUD, CLOUD, EDGE))
    siglip, join, head = places[2], places[3], places[4]
    assert siglip.level == join.level == 1
    assert siglip < join == head  # so siglip does not wait for dino
    serial = places_of(towers(), (EDGE, EDGE, EDGE, CLOUD, CLOUD, EDGE))
    assert {place.stretch for place in serial} == {0}


def test_no_walk_takes_longer_than_its_price() -> None:
    """In one trip: of phases or trips that do not wait for one another, the price counts the hops
    of one, and a side that works in order waits for both.
    """
    parallel, tight = 0, 0
    for seed in range(3000):
        numbers = np.random.default_rng(seed)
        graph, link = random_graph(numbers), random_link(numbers)
        if graph.trips != (1,):
            continue
        cuts = all_cuts(graph)
        for row in numbers.integers(0, len(cuts), 2):
            sides = [CLOUD if one else EDGE for one in cuts[row]]
            found = price(graph, sides, link)
            walked = walk_s(graph, sides, link)
            assert walked <= found.total_s * (1 + 1e-9) + 1e-12, seed
            parallel += found.overlap_s > 0
            tight += found.overlap_s > 0 and walked >= found.total_s * (1 - 1e-9)
    assert parallel > 50
    assert tight > 10
