"""The pool: candidates and their selection against brute force, pieces against the whole's bits."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.cutting import (
    LINK,
    PROVEN,
    Walk,
    placements_of,
    run_whole,
    sides_of,
    write_cuts,
)
from support.programs import cut_at_random, observation, random_program
from support.slow import quick

from vlacut.cli.show.pool import best_ranges
from vlacut.errors import HardwareError, InputError
from vlacut.hardware import Bandwidths, Link, Side, link_at, parse_bandwidths, parse_link
from vlacut.ir.dataflow import Dataflow, cuts_of
from vlacut.ir.program import Program
from vlacut.plans.plan import Plan, Variant
from vlacut.plans.pool import FORMS, Fate
from vlacut.pricing.cost_graph import CostGraph, Task
from vlacut.pricing.cut import Cut, make_cut
from vlacut.pricing.price import Price, price
from vlacut.split.parts import split
from vlacut.split.pieces import engines_of, make_pieces
from vlacut_passes.alternatives import AddAlternatives
from vlacut_passes.annotate_structure import AnnotateStructure
from vlacut_passes.pool.candidate import Candidate, doubled_bytes, make_candidate, undominated
from vlacut_passes.pool.candidates import best_placements
from vlacut_passes.pool.selection import select

OVER = Bandwidths("two", (1e-7, 1e-6), (0.25, 0.75))


def placed_at_random(seed: int, variants: int, form: str) -> tuple[Program, Dataflow]:
    """A random program with random placements, as `alternatives` would leave it."""
    program = random_program(seed, phases=1 + seed % 4)
    dataflow = cut_at_random(program, seed)
    numbers = np.random.default_rng(seed)
    there = np.zeros((len(dataflow.nodes), variants), dtype=bool)
    there[1:-1] = numbers.random((len(there) - 2, variants)) < 0.5
    placements = [[Side.CLOUD if one else Side.EDGE for one in each] for each in there.T.tolist()]
    return program, write_cuts(dataflow, *placements, form=form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(40))
def test_every_variant_computes_what_the_whole_does(seed: int, form: str) -> None:
    """And moves what its price counts; its plan is legal, or it could not be constructed."""
    program, flow = placed_at_random(seed, 3, form)
    made = split(flow)
    observed = observation(program, seed)
    expected = run_whole(program, observed)
    for sides, schedule in zip(placements_of(flow), made.schedules, strict=True):
        counted = price(flow.cost_graph(), sides, LINK)
        outputs = {spec.name: f"{program.phases[-1].name}/{spec.name}" for spec in program.outputs}
        Plan(
            program.name, "e", "c", LINK, program.inputs, outputs, made.tensors, made.parts,
            (Variant("v", schedule, counted),), (), PROVEN,
        )  # fmt: skip
        walk = Walk(replace(made, schedules=(schedule,)), observed)
        assert walk.moved == {Side.EDGE: counted.bytes_up, Side.CLOUD: counted.bytes_down}
        for name, key in outputs.items():
            np.testing.assert_array_equal(walk.held[Side.EDGE][key], expected[name])


@pytest.mark.parametrize("seed", range(40))
def test_segments_share_what_no_variant_tells_apart(seed: int) -> None:
    """An operator is in one segment, on the sides that variants put it on."""
    _, flow = placed_at_random(seed, 3, "segments")
    placements = placements_of(flow)
    pieces = {piece for ones in make_pieces(flow, placements) for piece in ones}
    for task in range(1, len(flow.nodes) - 1):
        mine = [piece for piece in pieces if task in piece.tasks]
        assert len({piece.tasks for piece in mine}) == 1
        assert {piece.side for piece in mine} == {sides[task] for sides in placements}
        assert len(mine) == len({piece.side for piece in mine})


def test_a_variant_alone_has_the_fewest_pieces() -> None:
    """The same placement twice is the same pieces, in either form, and the count of engines."""
    for seed in range(20):
        _, flow = placed_at_random(seed, 1, "segments")
        alone = make_pieces(flow, placements_of(flow))[0]
        for fused in (False, True):
            assert make_pieces(flow, placements_of(flow) * 2, fused) == [alone, alone]
        engines = engines_of(flow, placements_of(flow) * 2, "fused")
        assert engines.edge + engines.cloud == len(alone)


def random_candidates(seed: int) -> tuple[CostGraph, Candidate, list[Candidate], int]:
    """Candidates on a graph that has weights alone, and room for some of them."""
    numbers = np.random.default_rng(seed)
    weights = tuple(int(size) for size in numbers.integers(1, 100, 6))
    ends = (Task("o", -1, 0, 0, (), Side.EDGE), Task("a", 1, 0, 0, (), Side.EDGE))
    graph = CostGraph(ends, (), (), weights, (1,))

    def candidate() -> Candidate:
        there = frozenset(np.flatnonzero(numbers.random(6) < 0.5).tolist())
        fixed, moved = float(numbers.random()), int(numbers.random() * 1e6)
        cost = Price(
            edge_s=fixed,
            cloud_s=0.0,
            up_s=0.0,
            down_s=0.0,
            hop_s=0.0,
            bytes_up=moved,
            bytes_down=0,
            crossings=0,
            hops=0,
            edge_weight_bytes=0,
            cloud_weight_bytes=0,
        )
        cut = Cut(name="", origin="test", sides=(), price=cost)
        held = {"edge": frozenset(range(6)) - there, "cloud": there}
        return Candidate(cut=cut, link=LINK, over=LINK, **held)

    return graph, candidate(), [candidate() for _ in range(6)], int(numbers.integers(0, 250))


def expected_s(pool: list[Candidate]) -> float:
    points = np.array(OVER.seconds_per_byte)
    return float(np.min([one.at(points) for one in pool], axis=0) @ np.array(OVER.shares))


@pytest.mark.parametrize("seed", range(60))
def test_selection_is_the_best_of_all_subsets(seed: int) -> None:
    graph, chosen, others, room = random_candidates(seed)
    subsets = (list(some) for count in range(7) for some in itertools.combinations(others, count))
    best = min(
        expected_s([chosen, *some])
        for some in subsets
        if doubled_bytes(graph, chosen, some) <= room
    )
    for offered in (others, undominated(graph, chosen, others, OVER.seconds_per_byte)):
        kept = select(graph, chosen, offered, OVER, room)
        assert doubled_bytes(graph, chosen, kept) <= room
        assert expected_s([chosen, *kept]) == pytest.approx(best, rel=2e-6)


@pytest.mark.parametrize("seed", range(12))
def test_charged_search_finds_the_best_placement_for_its_bytes(seed: int) -> None:
    """Brute force over all placements of a phase: price and charge, at every point of the grid."""
    program = random_program(seed, phases=1)
    dataflow = cut_at_random(program, seed)
    graph = dataflow.cost_graph()
    count = len(graph.tasks) - 2
    chosen = candidate_of(graph, sides_of(dataflow))
    every = [
        candidate_of(graph, (Side.EDGE, *sides, Side.EDGE))
        for sides in itertools.product(Side, repeat=count)
    ]
    found = list(best_placements(graph, chosen, LINK, OVER, 1000, range(count + 2)))
    shares = (0.0, 0.1, 1.0, 10.0, 100.0)
    points = [OVER.seconds_per_byte[round(number / 4)] for number in range(5)]
    for (point, share), sides in zip(itertools.product(points, shares), found, strict=True):
        rate = share * float(chosen.at(point)) / 1000

        def total(one: Candidate, point: float = point, rate: float = rate) -> float:
            return float(one.at(point)) + rate * doubled_bytes(graph, chosen, [one])

        best = min(total(one) for one in every)
        # Charges are whole bytes on the link.
        slack = len(graph.weights) * point * LINK.up / LINK.down
        assert total(candidate_of(graph, sides)) <= best + slack


def candidate_of(graph: CostGraph, sides: Sequence[Side]) -> Candidate:
    return make_candidate(graph, make_cut(graph, sides, LINK, name="", origin="test"), LINK)


def test_only_free_tasks_move() -> None:
    program = random_program(5, phases=2)
    dataflow = cut_at_random(program, 5)
    graph = dataflow.cost_graph()
    chosen = candidate_of(graph, sides_of(dataflow))
    free = set(range(1, len(graph.tasks) - 1, 2))
    for sides in best_placements(graph, chosen, LINK, OVER, 1000, free):
        assert all(
            task in free or now is before
            for task, (now, before) in enumerate(zip(sides, chosen.sides, strict=True))
        )


@pytest.mark.parametrize("pool", quick(["block", "portfolio:300B"], "portfolio:300B"))
def test_the_pool_keeps_its_room_and_says_what_it_gains(pool: str) -> None:
    gained = 0
    for seed in range(8):
        program = random_program(seed, phases=2)
        AnnotateStructure().run(program)
        dataflow = cut_at_random(program, seed)
        link, chosen = parse_link("1MB/s/2MB/s,10ms"), sides_of(dataflow)
        write_cuts(dataflow, chosen, link=link)
        AddAlternatives(pool=pool, bandwidth="1B/s-1GB/s").run(program)
        found = cuts_of(dataflow)
        graph, placements = dataflow.cost_graph(), placements_of(dataflow)
        made = [make_candidate(graph, cut, link) for cut in found.variants]
        assert placements[0] == chosen
        assert len({cut.name for cut in found.variants}) == len(placements)
        assert found.pool.doubled_bytes == doubled_bytes(graph, made[0], made[1:])
        assert pool == "block" or found.pool.doubled_bytes <= 300
        over = parse_bandwidths("1B/s-1GB/s")
        prices = [
            [price(graph, sides, link_at(link, point)).total_s for point in over.seconds_per_byte]
            for sides in placements
        ]
        shares = np.array(over.shares)
        assert found.pool.alone_s == pytest.approx(np.array(prices[0]) @ shares)
        assert found.pool.expected_s == pytest.approx(np.min(prices, axis=0) @ shares)
        gained += found.pool.expected_s < found.pool.alone_s
    assert gained > 2


def test_what_no_pool_is() -> None:
    program = random_program(1)
    for options in ({"pool": "portfolio"}, {"pool": "block:3MB"}, {"engines": "small"}):
        with pytest.raises(InputError, match="write"):
            AddAlternatives(**options).run(program)


def test_best_intervals_are_those_of_the_prices() -> None:
    """Against the cheapest variant at many bandwidths; of some there are several."""
    several = 0
    for seed in range(10):
        program, flow = placed_at_random(seed, 4, "segments")
        made = split(flow)
        variants = tuple(
            Variant(f"v{number}", schedule, price(flow.cost_graph(), sides, LINK))
            for number, (sides, schedule) in enumerate(
                zip(placements_of(flow), made.schedules, strict=True)
            )
        )
        outputs = {spec.name: f"{program.phases[-1].name}/{spec.name}" for spec in program.outputs}
        plan = Plan(
            "p",
            "e",
            "c",
            LINK,
            program.inputs,
            outputs,
            made.tensors,
            made.parts,
            variants,
            (),
            PROVEN,
        )
        for rate in np.geomspace(1, 1e9, 50).tolist():
            over = [variant.price.over(LINK.at(rate)) for variant in variants]
            for variant, seconds in zip(variants, over, strict=True):
                ranges = best_ranges(plan, variant)
                several += len(ranges) > 1
                if seconds < min(over) * (1 + 1e-12):
                    assert any(
                        low <= rate * (1 + 1e-9) and rate <= high * (1 + 1e-9)
                        for low, high in ranges
                    )
                elif seconds > min(over) * (1 + 1e-9):
                    assert not any(low <= rate <= high for low, high in ranges)
    assert several


def test_a_price_over_its_own_link_is_its_total() -> None:
    dataflow = cut_at_random(random_program(3), 3)
    cost = price(dataflow.cost_graph(), sides_of(dataflow), LINK)
    assert cost.over(LINK) == pytest.approx(cost.total_s, rel=1e-12)
    other = Link(5e4, 7e4, 0.3)
    again = price(dataflow.cost_graph(), sides_of(dataflow), other)
    assert cost.over(other) == pytest.approx(again.total_s, rel=1e-12)


def test_log_uniform_bandwidths() -> None:
    """The mean of 1 / rate over [a, b], uniform in its logarithm: (1/a - 1/b) / log(b/a)."""
    found = parse_bandwidths("1MB/s-100MB/s")
    headers = 1514 / 1448
    mean = np.array(found.seconds_per_byte) @ np.array(found.shares)
    assert mean == pytest.approx(headers * (1e-6 - 1e-8) / np.log(100))
    assert 1e-8 < found.range[0] / headers < found.range[1] / headers < 1e-6
    assert sum(found.shares) == pytest.approx(1)


def test_traces(tmp_path: Path) -> None:
    """8 Mbit/s for 2 s, 80 Mbit/s for 1 s, and an outage of as long, which counts as 10 kB/s."""
    (tmp_path / "a.csv").write_text("time_s,mbit_per_s\n0,8\n1,8\n2,80\n3,0\n")
    for text in (tmp_path, tmp_path / "a.csv"):
        found = parse_bandwidths(str(text))
        np.testing.assert_allclose(
            found.seconds_per_byte, np.array([1e-7, 1e-6, 1e-6, 1e-4]) * 1514 / 1448
        )
        np.testing.assert_allclose(found.shares, [0.25] * 4)
    (tmp_path / "b.csv").write_text("time,rate\n0,8\n")
    for text in ("10MB/s", "2MB/s-1MB/s", str(tmp_path / "none"), str(tmp_path)):
        with pytest.raises(HardwareError):
            parse_bandwidths(text)


@pytest.mark.slow
def test_the_ledger_says_why_a_placement_is_in_the_pool_or_not() -> None:
    """Against what pricing says of the placements themselves."""
    link, seen = parse_link("1MB/s/2MB/s,10ms"), set()
    for seed, pool in itertools.product(range(8), ("block", "portfolio:300B")):
        program = random_program(seed, phases=2)
        AnnotateStructure().run(program)
        dataflow = cut_at_random(program, seed)
        write_cuts(dataflow, sides_of(dataflow), link=link)
        AddAlternatives(pool=pool, bandwidth="1B/s-1GB/s").run(program)
        made = cuts_of(dataflow)
        origins = {one.origin: one for one in made.considered}
        assert len(origins) == len(made.considered)
        assert [one.origin for one in made.considered if one.fate is Fate.CHOSEN] == ["chosen"]
        kept = {one.why: one for one in made.considered if one.fate is Fate.KEPT}
        assert sorted(kept) == sorted(cut.name for cut in made.alternatives)
        kept["chosen"] = origins["chosen"]
        for cut in made.variants:
            cost, one = price(dataflow.cost_graph(), cut.sides, link), kept[cut.name]
            assert cut.price == cost
            assert (one.bytes_up, one.bytes_down) == (cost.bytes_up, cost.bytes_down)
            assert (one.hops, one.latency_s) == (cost.hops, cost.total_s)
            assert any(each.upward for each in one.crossings) == bool(cost.bytes_up)
            assert any(not each.upward for each in one.crossings) == bool(cost.bytes_down)
        for one in made.considered:
            seen.add(one.fate)
            if one.fate is Fate.DOMINATED:
                better = origins[one.why.removeprefix("by ")]
                assert better.fate is not Fate.DOMINATED
                assert better.latency_s <= one.latency_s * (1 + 1e-9)
            assert pool == "block" or (one.fate is Fate.TOO_LARGE) == (one.doubled_bytes > 300)
    assert seen == set(Fate)
