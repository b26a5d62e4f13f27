"""A simpler cut for a stated share of the optimum: against brute force, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.programs import TARGET, looping_program
from support.random_graphs import all_cuts, random_graph, random_link

from vlacut.cli.show.report import proof
from vlacut.compiler.planning import plan_program
from vlacut.compiler.target import SIMPLER
from vlacut.errors import InputError
from vlacut.hardware import Link, Side
from vlacut.pricing.cost_graph import CostGraph
from vlacut.pricing.cut import Cut, Sides
from vlacut.pricing.price import price
from vlacut_passes.partition import Partition
from vlacut_passes.partitioning.limits import Limits
from vlacut_passes.partitioning.simpler import complexity_of, simpler_cut
from vlacut_passes.partitioning.solver.search import optimal_cut

SHARE = 0.25


def kept(cut: Cut) -> Cut | None:
    return cut


def simpler_ones(graph: CostGraph, link: Link, optimum: Sides, share: float) -> dict[Sides, int]:
    """Every cut that may be taken in the place of the optimum, with its figures' sum."""
    best = price(graph, optimum, link)
    least = complexity_of(graph, optimum, best)
    found = {}
    for row in all_cuts(graph):
        sides = tuple(Side.CLOUD if one else Side.EDGE for one in row)
        cost = price(graph, sides, link)
        figures = complexity_of(graph, sides, cost)
        if cost.total_s <= best.total_s * (1 + share) and figures.less_than(least):
            found[sides] = sum(figures.figures)
    return found


@pytest.mark.slow
def test_a_simpler_cut_is_one_and_is_seldom_missed() -> None:
    there = taken = simplest = 0
    for seed in range(100):
        numbers = np.random.default_rng(seed)
        graph, link = random_graph(numbers, 6), random_link(numbers)
        optimum = optimal_cut(graph, link).sides
        allowed = simpler_ones(graph, link, optimum, SHARE)
        found = simpler_cut(graph, link, Limits(), optimum, (), SHARE, kept)
        if found is None:
            there += bool(allowed)
            continue
        cut, its, optimal = found
        assert cut.sides in allowed, seed
        assert its.less_than(optimal)
        assert cut.price.total_s <= price(graph, optimum, link).total_s * (1 + SHARE)
        there, taken = there + 1, taken + 1
        simplest += allowed[cut.sides] == min(allowed.values())
    assert there > 10
    assert taken >= 0.85 * there
    assert simplest >= 0.85 * taken


def test_limits_are_kept_and_the_error_of_the_action_too() -> None:
    for seed in range(30):
        numbers = np.random.default_rng(seed)
        graph, link = random_graph(numbers, 6), random_link(numbers)
        best = optimal_cut(graph, link)
        exact = Limits(latency=best.value)
        assert simpler_cut(graph, link, Limits(), best.sides, (), SHARE, lambda _: None) is None
        found = simpler_cut(graph, link, exact, best.sides, (), SHARE, kept)
        assert found is None or found[0].price.total_s <= best.value * (1 + 1e-11)


def test_the_plan_says_what_was_proven_and_what_was_taken() -> None:
    """Both machines for 1.25 % of a step: within a tenth one of them does, within 1 % not."""
    asked = replace(TARGET, link="1GB/s,10us")
    exact, plain = (
        plan_program(looping_program(), replace(asked, simpler=share)).plan
        for share in (0.0, SIMPLER)
    )
    assert exact == plain
    assert exact.certificate.simpler == ""
    assert exact.strategies[0].name == "optimal"
    found = plan_program(looping_program(), replace(asked, simpler=0.1)).plan
    rows = {row.name: row for row in found.strategies}
    assert found.strategies[0].name == "simpler"
    assert found.certificate.proven
    assert found.certificate.value == exact.certificate.value == rows["optimal"].price.total_s
    more = rows["simpler"].price.total_s / rows["optimal"].price.total_s - 1
    assert 0.01 < more < 0.1
    assert found.variants[0].price == rows["simpler"].price
    assert found.variants[0].price.hops == 0
    assert found.certificate.simpler.endswith(f"{more:.2%}")
    text = proof(found.certificate)
    assert text.startswith("Proven: no cut within the limits has a lower latency than optimal")
    assert "Taken is simpler: 2 parts, 0 hops and 0 crossings" in text


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(InputError, match="a share of the optimum"):
        plan_program(looping_program(), replace(TARGET, simpler=share))
    with pytest.raises(InputError, match="a share of the optimum"):
        Partition(simpler=share).run(looping_program())
