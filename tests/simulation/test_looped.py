"""The control loop on paper: the robot's own code over recorded episodes and bandwidths."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.arm import TICK_S, episodes_of
from support.commands import Vlacut
from support.plans import routed_plan

from vlacut.control.controllers.naming import DYQ
from vlacut.control.precision_table import PrecisionTable, write_precision_table
from vlacut.control.recording.episodes import Episodes, write_episodes
from vlacut.control.signals.fineness import MotionUnits
from vlacut.control.tables import ActionTables
from vlacut.control.ways.chunk import ChunkReader, parse_chunk
from vlacut.errors import InputError
from vlacut.hardware.trace import Trace
from vlacut.measurement.actions.calibrating import fit_tables
from vlacut.measurement.actions.chunks import with_fresh_chunks
from vlacut.measurement.actions.precision import fit_units, sensitivities
from vlacut.simulation.looped.comparing import LoopComparison
from vlacut.simulation.looped.hindsight import Best, Episode, best_at, best_within
from vlacut.simulation.looped.recorded import make_recorded
from vlacut.tensor import TensorSpec

TRACE = Trace((2e6, 0.5e6, 4e6, 0.2e6), (3.0, 2.0, 4.0, 1.0))
LENGTH = 16


@cache
def fitted() -> tuple[Episodes, ActionTables]:
    """Episodes with the chunk of every tick, and tables of others."""
    episodes, chunks = episodes_of(range(12))
    output = TensorSpec("action", "float64", (1, LENGTH, 8))
    reader = ChunkReader(parse_chunk("action,switched=7"), output, {}, TICK_S)
    apart = np.zeros((2, len(range(0, episodes.ticks, 5)), 8))
    tables, _ = fit_tables(episodes, reader, chunks, ["cut", "edge"], apart, 5)
    others, chunks = episodes_of(range(50, 54))
    return with_fresh_chunks(others, chunks), tables


def comparison(**changes: object) -> LoopComparison:
    episodes, tables = fitted()
    plan = routed_plan()
    made = LoopComparison(plan, episodes, TRACE, plan.link, tables, selector="argmin")
    return replace(made, **changes)  # type: ignore[arg-type]


def brute(episode: Episode, price: float) -> Best:
    """Every way to keep and to ask."""
    count, most = episode.errors.shape
    best: tuple[float, Best] | None = None

    def go(tick: int, age: int, held: int, error: float, cost: float, asked: int) -> None:
        nonlocal best
        if tick >= count:
            made = error + price * cost
            if best is None or made < best[0] - 1e-12:
                best = made, Best(error, cost, asked)
            return
        for variant in range(-1, len(episode.costs)):
            waits = 1 if variant < 0 else min(count - tick, int(episode.arrivals[tick, variant]))
            more = sum(
                np.nan_to_num(episode.errors[tick + step, min(age + step, most - 1)])
                + episode.added[held]
                for step in range(waits)
            )
            if variant < 0:
                go(tick + 1, min(age + 1, most - 1), held, error + more, cost, asked)
            else:
                paid = cost + episode.costs[variant]
                after = min(waits, most - 1)
                go(tick + waits, after, variant, error + more, paid, asked + 1)

    go(0, 0, int(np.argmin(episode.added)), 0.0, 0.0, 0)
    assert best is not None
    return best[1]


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.floats(0.0, 1.0))
def test_hindsight_finds_the_best_of_all_ways(seed: int, price: float) -> None:
    numbers = np.random.default_rng(seed)
    count = 6
    episode = Episode(
        np.sort(numbers.random((count, 4)), axis=1),
        numbers.integers(1, 4, (count, 2)),
        numbers.random(2),
        numbers.random(2) / 5,
    )
    found, right = best_at(episode, price), brute(episode, price)
    assert found.error + price * found.cost == pytest.approx(right.error + price * right.cost)


def test_the_best_within_a_budget_costs_no_more() -> None:
    numbers = np.random.default_rng(4)
    episodes = [
        Episode(
            np.sort(numbers.random((30, 12)), axis=1),
            numbers.integers(1, 5, (30, 2)),
            np.array([1.0, 2.5]),
            np.zeros(2),
        )
        for _ in range(2)
    ]
    errors = []
    for budget in (0.0, 4.0, 9.0, 1000.0):
        best = best_within(episodes, budget)
        assert best.cost <= budget
        errors.append(best.error)
    assert errors == sorted(errors, reverse=True)
    assert best_within(episodes, 0.0).inferences == 0


def test_every_controller_is_above_the_best_decisions_of_its_cost() -> None:
    rows = comparison().run(["when-empty", "periodic", "rapid", "risk", "price"])
    by_name = {row.controller: row for row in rows}
    for row in rows:
        played = row.played
        assert row.regret > -1e-9, row.controller
        assert played.tallied.ticks == len(played.errors) == fitted()[0].ticks
        assert played.cloud_s + played.edge_s > 0
        asked = [one.asked for one in played.reports if one.asked is not None]
        assert len(asked) == len(played.ran)
        assert played.tallied.free == pytest.approx(1 - len(asked) / played.tallied.ticks)
    newest = by_name["periodic"].played
    assert newest.tallied.age_s[0] == min(row.played.tallied.age_s[0] for row in rows)
    assert len(newest.ran) == max(len(row.played.ran) for row in rows)
    assert by_name["when-empty"].played.error > newest.error
    # It errs less than the joints' rule and the calendar, for no more inferences than one per step.
    price = by_name["price"].played
    assert price.error < by_name["rapid"].played.error
    assert len(price.ran) < len(newest.ran)


def test_ages_are_those_of_the_recording() -> None:
    played = comparison().play("when-empty")
    episodes = fitted()[0]
    start = episodes.tick_ns[0]
    for report in played.reports:
        assert report.inference is not None
        shown = report.command
        captured = report.captured_ns + start
        tick = int(np.flatnonzero(episodes.captured_ns == captured)[0])
        now = report.tick % episodes.ticks
        late = int(np.flatnonzero(episodes.tick_ns == report.at_ns + start)[0]) - tick
        assert late >= 0, now
        if not report.starved:
            np.testing.assert_array_equal(shown, episodes.chunk[tick, late])


def test_the_same_run_twice_is_the_same_run() -> None:
    one, other = comparison().play("price"), comparison().play("price")
    assert one.ran == other.ran
    np.testing.assert_array_equal(one.errors, other.errors)


def test_noise_on_pictures_is_no_matter_to_the_joints() -> None:
    """Exactly: what an observation holds is in no decision of the kinematic routes."""
    episodes, _ = fitted()
    numbers = np.random.default_rng(0)
    image = numbers.random(episodes.observation["image"].shape).astype(np.float32)
    noisy = replace(episodes, observation={"image": image})
    for name in ("rapid", "risk", "price"):
        assert comparison().play(name).ran == comparison(episodes=noisy).play(name).ran


def test_episodes_need_the_chunk_of_every_tick() -> None:
    with pytest.raises(InputError, match="--fresh"):
        make_recorded(episodes_of([1])[0])


def test_errors_are_those_of_the_chunks() -> None:
    recorded = make_recorded(fitted()[0])
    errors = recorded.errors(0, 60)
    for tick, late in itertools.product((20, 40), (0, 3, 15, 25)):
        if late > tick:
            continue
        old = recorded.chunks[tick - late, min(late, LENGTH - 1)]
        apart = np.abs(old - recorded.chunks[tick, 0]) / recorded.scale
        assert errors[tick, late] == pytest.approx(apart.mean())
    assert np.isnan(errors[2, 5])


def test_dyq_plays_precisions_by_how_finely_the_arm_moves() -> None:
    plan = routed_plan()
    one, other = plan.variants
    coarse = replace(plan, variants=(one, replace(other, precision="int4")))
    episodes = fitted()[0]
    units = fit_units(episodes, MotionUnits((0, 1, 2), (3, 4, 5), False))
    middle = float(np.median(sensitivities(episodes, units)))
    table = PrecisionTable(
        precisions=("", "int4"),
        units=units,
        edges=(middle,),
        levels=(1, 0),
        eps=(0.1, 0.1),
        errors=((0.0, 0.0), (0.05, 0.05)),
        alpha=0.1,
        counts=(30, 30),
    )
    played = comparison(plan=coarse, options={DYQ: {"table": table}}).play(DYQ)
    assert {variant for _, variant, _ in played.ran} == {0, 1}


def test_the_commands(vlacut: Vlacut, split_bundle: Path, tmp_path: Path) -> None:
    episodes, trace = tmp_path / "episodes.npz", tmp_path / "trace.csv"
    write_episodes(episodes, fitted()[0])
    trace.write_text("time_s,mbit_per_s\n0,16\n5,4\n10,16\n")
    words = ["simulate", split_bundle, "--trace", trace, "--episodes", episodes]
    status, out, _ = vlacut(*words, "--json")
    assert status == 0
    rows = {row["controller"]: row for row in json.loads(out)["rows"]}
    assert set(rows) == {"when-empty", "periodic", "rapid", "price"}
    assert all(row["age_ms"]["p99"] >= row["age_ms"]["mean"] > 0 for row in rows.values())
    status, out, _ = vlacut(*words, "--controller", "rapid")
    assert status == 0
    assert "hindsight" in out
    status, _, error = vlacut(*words, "--controller", "risk")
    assert status == 2
    assert "calibrate-actions" in error
    status, _, error = vlacut(*words, "--controller", "dyq")
    assert status == 2
    assert "--precision-table" in error
    table = tmp_path / "table.json"
    units = MotionUnits((0, 1, 2), (3, 4, 5), False, 0.01, 0.01)
    alone = {"edges": (), "levels": (0,), "eps": (0.1,), "errors": ((0.0,),), "counts": (30,)}
    write_precision_table(table, PrecisionTable(precisions=("",), units=units, alpha=0.1, **alone))
    status, out, _ = vlacut(*words, "--precision-table", table, "--json")
    assert status == 0
    assert "dyq" in {row["controller"] for row in json.loads(out)["rows"]}
    twin = ["twin", split_bundle, "--link", "10MB/s,2ms", "--rate", 50, "--steps", 20]
    chunk = ["--chunk", "action,axis=1", "--controller", "rapid", "--episodes", episodes]
    status, out, _ = vlacut(*twin, *chunk, "--json")
    assert status == 0
    loop = json.loads(out)["loop"]
    assert loop["ticks"] == 20
    assert any(one["motion"] for one in loop["commands"])
