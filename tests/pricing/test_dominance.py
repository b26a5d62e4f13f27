"""Where a cut and another change places, against a bisection; and the line that says so."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import bisect
from support.programs import looping_program
from support.random_graphs import all_cuts, random_graph
from support.slow import quick

from vlacut.bundle.reading import open_bundle
from vlacut.cli.show.report import verdict, why
from vlacut.compiler.planning import plan_program
from vlacut.compiler.target import Target
from vlacut.hardware import Link, Side
from vlacut.pricing.dominance import Standing, changes_at
from vlacut.pricing.price import Certificate, price

LINK = Link(2e6, 1e6, 0.002)


@pytest.mark.parametrize("seeds", quick([range(40), range(40, 150)], range(40)), ids=["40", "110"])
def test_cuts_change_places_where_their_prices_are_equal(seeds: range) -> None:
    """Found by bisection on the price itself, at scaled links; of several, the nearest."""
    seen = {"crosses": 0, "never": 0}
    for seed in seeds:
        numbers = np.random.default_rng(seed)
        graph = random_graph(numbers)
        flows = (replace(flow, nbytes=flow.nbytes * 10**6) for flow in graph.flows)
        graph = replace(graph, flows=tuple(flows))
        rows = all_cuts(graph)[numbers.integers(0, len(all_cuts(graph)), 2)]
        cuts = [[Side.CLOUD if one else Side.EDGE for one in row] for row in rows]
        found = changes_at(*(price(graph, cut, LINK) for cut in cuts), LINK)

        def ahead(up: float) -> float:
            link = Link(up, up / 2, LINK.rtt)
            one, other = (price(graph, cut, link).total_s for cut in cuts)  # noqa: B023
            return other - one

        rates = np.geomspace(1e-3, 1e15, 400).tolist()
        signs = [np.sign(ahead(rate)) if abs(ahead(rate)) > 1e-9 else 0.0 for rate in rates]
        turns = [
            bisect(ahead, *pair, rtol=1e-12)
            for pair, (one, other) in zip(pairwise(rates), pairwise(signs), strict=True)
            if one * other < 0
        ]
        if turns:
            nearest = min(turns, key=lambda rate: max(rate / LINK.up, LINK.up / rate))
            assert found == pytest.approx(nearest, rel=1e-6), seed
            seen["crosses"] += 1
        elif 0 not in signs:
            assert not 1e-3 < found < 1e15, seed
            seen["never"] += 1
    assert min(seen.values()) > 10, seen


def standing(ratio: float, change: float = 0.0, why_not: str = "") -> Standing:
    return Standing("all-cloud", ratio, why_not, change)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (standing(1.25), "1.25 x faster than all-cloud (at any bandwidth)"),
        (standing(2.0, 3.256e6), "2.00 x faster than all-cloud (slower below 3.4 MB/s)"),
        (standing(2.0, 3.2e10), "2.00 x faster than all-cloud (slower above 33500 MB/s)"),
        (standing(1.0), "as fast as all-cloud"),
        (
            standing(0.5, 4e6, "3 GB over the limit"),
            "2.00 x slower than all-cloud (faster below 4.18 MB/s), which is not allowed: 3 GB "
            "over the limit",
        ),
        (
            standing(0.8),
            "1.25 x slower than all-cloud (at any bandwidth), which is allowed, but not what was "
            "asked for",
        ),
    ],
)
def test_the_last_line_says_what_is_beaten_and_why(
    split_bundle: Path, found: Standing, said: str
) -> None:
    plan = open_bundle(split_bundle).plan
    told = verdict(replace(plan, link=Link(10e6, 10e6), standings=(found, found)))
    assert told == f"The split is {said}; {said}."


def test_all_in_the_cloud_with_codecs_is_not_compared_with_itself() -> None:
    asked = Target("jetson-agx-orin", "a100", "100kB/s,5ms", pin=("*=cloud",), codecs="int8")
    said = verdict(plan_program(looping_program(), asked).plan)
    assert said.startswith("No split pays here: everything runs in the cloud, ")
    assert "x faster than all-cloud (" in said
    assert "all-cloud-coded" not in said


def test_why_a_part_is_where_it_is(split_bundle: Path) -> None:
    plan = open_bundle(split_bundle).plan
    part = replace(plan.parts[0], side=Side.EDGE, saves_s=-0.002)
    latency = Certificate("latency", 1.0, 1.0, "min-cut")
    faster = "in the cloud 2 ms faster, but "
    for certificate, name, because in (
        (latency, "optimal", "not allowed"),
        (replace(latency, bound=0.5), "optimal", "not allowed, or not found"),
        (replace(latency, minimised="energy"), "optimal", "not what was asked for"),
        (latency, "fixed-half", "not what was asked for"),
    ):
        first = replace(plan.strategies[0], name=name)
        asked = replace(plan, certificate=certificate, strategies=(first, *plan.strategies[1:]))
        assert why(part, asked) == faster + because
    assert why(replace(part, name="of another variant"), plan) == f"{faster}for another bandwidth"
    assert why(replace(part, saves_s=0.002), plan) == "in the cloud 2 ms slower"
    assert why(replace(part, saves_s=-1e-20), plan) == "in the cloud 0 ms slower"


def test_a_bundle_keeps_how_its_cut_stands(split_bundle: Path) -> None:
    plan = open_bundle(split_bundle).plan
    rows = {row.name: row for row in plan.strategies}
    assert [one.other for one in plan.standings] == ["all-edge", "all-cloud"]
    for one in plan.standings:
        total_s = rows[one.other].price.total_s
        assert one.ratio == pytest.approx(total_s / plan.variants[0].price.total_s)
        assert one.why_not == rows[one.other].why_not
    assert plan.standings[1].why_not  # the budget of the fixture
