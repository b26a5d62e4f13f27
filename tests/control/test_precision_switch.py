"""DyQ-VLA's switch: the sensitivity, the hysteresis, the table, and the controller of all three."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlacut.control.controllers.dynamic import PATIENCE, Dynamic, Steady
from vlacut.control.controllers.naming import make_controller
from vlacut.control.precision_table import (
    PrecisionTable,
    read_precision_table,
    write_precision_table,
)
from vlacut.control.report import CLOUD, CUT, EDGE, Route
from vlacut.control.signals.fineness import MotionUnits, SensitivityMeter
from vlacut.control.situation import STILL, Ahead, Buffered, Keep, Request, Situation
from vlacut.errors import BundleError, InputError

UNITS = MotionUnits((0, 1, 2), (3, 4, 5), True, 0.5, 0.2, 0.01, 0.01)
TABLE = PrecisionTable(
    precisions=("", "int8", "int4"),
    units=UNITS,
    edges=(0.3, 0.6),
    levels=(2, 1, 0),
    eps=(0.03, 0.02, 0.01),
    errors=((0.0, 0.0, 0.0), (0.01, 0.015, 0.02), (0.02, 0.04, 0.05)),
    alpha=0.1,
    counts=(30, 30, 30),
)
ROUTES = [
    Route("chosen", EDGE, "float32"),
    Route("all-cloud", CLOUD, "float32"),
    Route("chosen@int8", EDGE, "int8", rounded=True, error=0.01),
    Route("chosen@int4", EDGE, "int4", rounded=True, error=0.03),
    Route("cut@int4", CUT, "int4", rounded=True, error=0.03),
]
TIMES = (0.2, 0.1, 0.08, 0.05, 0.04)
FAST = np.array([0.5, 0, 0, 0, 0, 0, 1.0])  # moves by mu, does not turn
SLOW = np.array([0.02, 0, 0, 0, 0, 0, 1.0])
RESTS = np.zeros(7)


def situation(
    executed: Sequence[np.ndarray],
    times: Sequence[float] = TIMES,
    runs_out: bool = False,
    in_flight_s: float | None = None,
) -> Situation:
    buffer = Buffered(0.5, 0.2, in_flight_s, 0.2, runs_out, 0)
    return Situation(9, 0.05, None, times, STILL, Ahead(), buffer, None, executed)


def brute(units: MotionUnits, commands: np.ndarray, period_s: float) -> float:
    """S by its definition."""
    fine, jerk, before = [], [], None
    for one in commands:
        length, turned = np.linalg.norm(one[:3]), one[3:6]
        moves = length > units.rest_translation
        turns = np.linalg.norm(turned) > units.rest_rotation
        change = 0.0 if before is None else np.linalg.norm(turned - before)
        before = turned
        if moves or turns:
            fine.append(1 - length / units.mu)
            jerk.append(change / units.nu if turns else 0.0)
    if not fine:
        return 0.0
    last = [np.mean(each[-round(s / period_s) :]) for each, s in ((fine, 1.0), (jerk, 0.5))]
    return max(0.0, 0.5 * last[0] + 0.5 * last[1])


@given(st.integers(0, 1000), st.sampled_from([0.05, 0.1, 0.2]))
def test_the_sensitivity_is_that_of_the_paper(seed: int, period_s: float) -> None:
    numbers = np.random.default_rng(seed)
    commands = numbers.normal(0, 0.2, (40, 7)) * (numbers.random((40, 1)) < 0.8)
    meter = SensitivityMeter(UNITS, period_s)
    for count in range(1, 41):
        expected = brute(UNITS, commands[:count], period_s)
        assert meter.take(commands[count - 1]) == pytest.approx(expected, abs=1e-12)
    targets = np.cumsum(commands, axis=0)
    absolute = SensitivityMeter(replace(UNITS, increments=False), period_s)
    found = [absolute.take(one) for one in targets]
    assert found[0] == 0
    assert found[-1] == pytest.approx(brute(UNITS, commands[1:], period_s), abs=1e-9)


def test_an_arm_at_rest_is_not_the_most_sensitive() -> None:
    meter = SensitivityMeter(UNITS, 0.1)
    assert [meter.take(FAST) for _ in range(12)][-1] == 0
    assert [meter.take(RESTS) for _ in range(30)][-1] == 0
    assert [meter.take(SLOW) for _ in range(12)][-1] == pytest.approx(0.48)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=60))
def test_more_exact_at_once_and_less_exact_after_so_many_ticks(asked: list[int]) -> None:
    """Algorithm 1, its bits being levels turned round: b up is a level down."""
    steady = Steady()
    level, count, most = 0, 0, 0
    for one in asked:
        if one <= level:
            level, count, most = one, 0, one
        else:
            least = min(one, most) if count > 0 else one
            count = (count if least == most else 0) + 1
            most = least
            if count == PATIENCE:
                level, count = most, 0
        assert steady.take(one) == level
        assert level <= max(asked)


def test_the_controller_asks_for_the_quickest_variant_of_the_precision() -> None:
    controller = Dynamic(ROUTES, TABLE)
    moved: list[np.ndarray] = []
    said = []
    for _ in range(30):
        moved.append(FAST)
        decision = controller.decide(situation(executed=moved, runs_out=True))
        assert isinstance(decision, Request)
        said.append(decision.variant)
    assert said[0] == 1  # as it is, in the cloud, for that is quicker
    assert said[PATIENCE - 1 :] == [4] * (31 - PATIENCE)
    slower = (0.2, 0.1, 0.08, 0.05, 0.4)
    decision = controller.decide(situation(times=slower, executed=[*moved, FAST], runs_out=True))
    assert isinstance(decision, Request)
    assert decision.variant == 3  # the cut follows the network
    assert "int4" in decision.why


def test_a_turn_to_sensitive_is_answered_at_once() -> None:
    controller = Dynamic(ROUTES, TABLE)
    for _ in range(20):
        controller.decide(situation(executed=[FAST], runs_out=True))
    idle = controller.decide(situation(executed=[FAST], runs_out=False))
    assert isinstance(idle, Keep)
    asked = []
    for _ in range(18):
        in_flight = situation(executed=[SLOW], runs_out=False, in_flight_s=0.01)
        decision = controller.decide(in_flight)
        asked += [decision] if isinstance(decision, Request) else []
    assert [one.variant for one in asked] == [2]  # to int8, and no further: the window is not full
    assert asked[0].preempt
    controller.reset()
    first = controller.decide(situation(executed=[], runs_out=True))
    assert isinstance(first, Request)
    assert first.variant == 1


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    write_precision_table(path, TABLE)
    assert read_precision_table(path) == TABLE
    assert path.stat().st_size < 64_000
    made = make_controller("dyq", ROUTES, table=str(path))
    assert isinstance(made.decide(situation(executed=[FAST])), (Keep, Request))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "not of format 1"),
        ({"precisions": ["int8", "", "int4"]}, "do not begin with the program as it is"),
        ({"edges": [0.6, 0.3]}, "not in order"),
        ({"edges": [0.6]}, "not as many everywhere"),
        ({"levels": [0, 1, 2]}, "not in order"),
        ({"levels": [7, 1, 0]}, "a level is none"),
        ({"errors": [[0.0, 0.0, 0.0]]}, "errors are not those"),
        ({"alpha": "x"}, "alpha"),
    ],
)
def test_a_table_that_is_none_is_refused(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    path = tmp_path / "table.json"
    write_precision_table(path, TABLE)
    found = json.loads(path.read_text())
    path.write_text(json.dumps({**found, **change}))
    with pytest.raises(BundleError, match=said):
        read_precision_table(path)
    path.write_text("no")
    with pytest.raises(BundleError, match="is no table of precisions"):
        read_precision_table(path)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="needs a table of precisions"):
        make_controller("dyq", ROUTES)
    with pytest.raises(InputError, match="no variant in int4"):
        Dynamic(ROUTES[:3], TABLE)
    with pytest.raises(InputError, match="at least 1"):
        Dynamic(ROUTES, TABLE, patience=0)
    controller = Dynamic(ROUTES, TABLE)
    with pytest.raises(InputError, match="reads column 5 of 4"):
        controller.decide(situation(executed=[np.zeros(4)]))
