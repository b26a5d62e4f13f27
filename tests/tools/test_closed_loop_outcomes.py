"""What is said of the closed loop's episodes: pairs, files of outcomes, chunks of other lengths."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_rel

from vlacut.hardware.trace import Trace
from vlacut.measurement.acceptance import read_outcomes

os.environ.setdefault("MUJOCO_GL", "egl")  # read when MuJoCo is imported
simulated = pytest.mark.skipif(
    importlib.util.find_spec("mujoco") is None,
    reason="MuJoCo is not installed: sh tools/closed_loop/setup.sh",
)


def outcomes(bench: Any, won: Sequence[bool], cloud_s: Sequence[float]) -> list[Any]:
    make = bench("results.outcomes").Outcome
    return [
        make(seed, success, 3.0, 0.1, 9.0, 4, 0.9, spent, 0.2, 7, 0.1)
        for seed, (success, spent) in enumerate(zip(won, cloud_s, strict=True))
    ]


def test_pairs_of_the_same_episodes(bench: Any) -> None:
    """The mean's interval is Student's; that of shares holds the difference, and zero if even."""
    paired = bench("results.paired")
    numbers = np.random.default_rng(1)
    first = outcomes(bench, numbers.random(40) < 0.5, numbers.random(40))
    second = outcomes(bench, numbers.random(40) < 0.9, numbers.random(40))
    found = paired.mean_difference(first, second, "cloud_s")
    exact = ttest_rel([one.cloud_s for one in second], [one.cloud_s for one in first])
    bounds = exact.confidence_interval(0.95)
    assert found[1:] == pytest.approx((bounds.low, bounds.high))
    success = paired.success_difference(first, second)
    assert success.low < success.mean < success.high
    assert success.low > 0
    even = paired.success_difference(first, first)
    assert even.mean == 0
    assert even.low == pytest.approx(-even.high)
    with pytest.raises(ValueError, match="same episodes"):
        paired.success_difference(first, second[1:])


@pytest.mark.parametrize("better", [0.5, 0.8])
def test_the_interval_of_shares_holds_what_is_true(bench: Any, better: float) -> None:
    """At least 93 of 100 times, over 400 sets of 60 pairs."""
    difference, numbers = bench("results.paired").success_difference, np.random.default_rng(3)
    held, dear = 0, np.zeros(60)
    for _ in range(400):
        first = outcomes(bench, numbers.random(60) < 0.5, dear)
        second = outcomes(bench, numbers.random(60) < better, dear)
        found = difference(first, second)
        held += found.low <= better - 0.5 <= found.high
    assert held >= 0.93 * 400


@simulated
def test_outcomes_are_files_for_accept(bench: Any, tmp_path: Path) -> None:
    cells, report = bench("results.cells"), bench("report")
    table = bench("results.tables").small_table()
    store = bench("results.store").Store(tmp_path / "outcomes.jsonl")
    made = outcomes(bench, [True, False, True], [0.0, 0.0, 0.0])
    for at, (_, cell) in enumerate(table.rows):
        for one in made[at:]:
            store.add(cell, replace(one, seed=cells.HELD_OUT + one.seed))
    report.keep(table, store, 3, tmp_path)
    first, second = (cells.HELD_OUT, cells.HELD_OUT + 1)
    read = read_outcomes(tmp_path / "small" / "naive-100-ms.csv")
    assert read == {str(first): True, str(second): False, str(second + 1): True}
    assert len(read_outcomes(tmp_path / "small" / "naive-600-ms.csv")) == 2


@simulated
def test_the_expert_plans_as_far_as_it_is_asked_to(bench: Any) -> None:
    oracle, tasks = bench("rollouts.oracle"), bench("simulation.tasks")
    task, world = bench("rollouts.scene").world_of("pick")
    scene = oracle.scene_of(world, tasks.begin(task, world, 2), 0)
    short, long = (
        oracle.Oracle("pick", length).act({oracle.SCENE: scene})["actions"] for length in (16, 32)
    )
    assert long.shape == (32, 5)
    np.testing.assert_array_equal(long[:16], short)
    assert np.abs(long[31] - long[15]).max() > 0.01


@simulated
def test_a_recording_from_its_middle_on(bench: Any) -> None:
    trace = Trace((1.0, 2.0, 3.0), (1.0, 2.0, 3.0))
    assert bench("live").after(trace, 0.0) == trace
    assert bench("live").after(trace, 1.5) == Trace((2.0, 3.0), (1.5, 3.0))
    assert bench("live").after(trace, 3.0) == Trace((3.0,), (3.0,))


@simulated
def test_figures_are_kept_beside_each_other(bench: Any, tmp_path: Path) -> None:
    """Of all episodes of a row; a table that is run later leaves the rows of others."""
    cells, figures = bench("results.cells"), bench("results.figures")
    table = bench("results.tables").small_table()
    store = bench("results.store").Store(tmp_path / "outcomes.jsonl")
    made = outcomes(bench, [True, False, True, True], [0.5, 0.5, 1.0, 2.0])
    path = tmp_path / "figures.json"
    for at, (label, cell) in enumerate(table.rows):
        for one in made[: 4 - at]:
            store.add(cell, replace(one, seed=cells.HELD_OUT + one.seed))
        figures.write_figures(path, [table.only([label])], store)
    rows = json.loads(path.read_text())["small"]["rows"]
    assert list(rows) == ["naive 100 ms", "naive 600 ms"]
    first, second = rows.values()
    assert (first["won"], first["episodes"], second["episodes"]) == (3, 4, 3)
    assert first["cloud_s"] == 1.0
    assert first["free"] == pytest.approx(1 - 4 / 60, abs=1e-4)  # 4 inferences in 3 s
    assert first["busy_ms"] == pytest.approx(1e3 * 0.4 / 60, abs=1e-3)
    assert figures.cells_of([])[0] == "-"


def test_requests_in_flight_answer_earlier_observations(bench: Any) -> None:
    """With two more in flight an answer is to the observation of two inferences ago."""
    from vlacut.control.inferring.inference import Inference, Outlook
    from vlacut.control.inferring.virtual import Course

    runner = bench("rollouts.pipelined").Pipelined(
        lambda inference, variant: {"actions": inference.observation["seen"]},
        lambda inference, now_ns: Course(0, 0.1),
        lambda now_ns: Outlook((0.1,), (0.1,)),
        2,
    )
    answered = []
    for number in range(5):
        now_ns = number * 100_000_000
        runner.start(
            Inference(number, {"seen": np.array(number)}, now_ns, 2 * number, None, ""), now_ns
        )
        assert runner.answer(now_ns + 99_000_000) is None
        answer = runner.answer(now_ns + 100_000_000)
        assert answer.inference.number == number
        assert answer.inference.observation["seen"] == answer.action["actions"]
        assert answer.captured_ns == int(answer.action["actions"]) * 100_000_000
        answered.append(int(answer.action["actions"]))
    assert answered == [0, 0, 0, 1, 2]


@simulated
def test_rules_of_when_to_ask(bench: Any, split_bundle: Path) -> None:
    """Only a policy that tells how unsure it is has the rule that asks it."""
    cell = bench("results.cells").Cell(
        "belt", "p", plan=str(split_bundle), traces="x/5g", playing="naive"
    )
    make = bench("results.networks").controller_table
    plain = make("5G", "flow", cell)
    other = make("5G", "tokens", replace(cell, playing="aligned", disturbance="noise"))
    assert plain.name == "controllers-flow-5g"
    assert other.name == "controllers-tokens-5g-noise-aligned"
    rules = [{label for label, _ in one.rows} for one in (plain, other)]
    looser = {label for label in rules[0] if label.startswith("price, eps ")}
    assert len(looser) == 1
    assert rules[1] ^ rules[0] == {"entropy", *looser}
    assert {second for _, second in other.compared} == {"price"}
    assert {pair for pair in plain.compared if pair[1] != "price"} == {
        ("when-empty", *looser),
    }
    assert "5G (5g), naive" in plain.title
    assert len({one.key for one in (*plain.cells, *other.cells)}) == 12 + 2 * len(
        [label for label, _ in plain.rows if label.startswith("all-")]
    )
