"""Calibration of the switch of precision: from scripted episodes, and from a bundle's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.arm import episodes_of
from support.commands import Vlacut
from support.precisions import policy, slow_memory

import vlacut as package
from vlacut.bundle.reading import read_bundle
from vlacut.control.precision_table import (
    PrecisionTable,
    read_precision_table,
    write_precision_table,
)
from vlacut.control.recording.episodes import Episodes
from vlacut.control.signals.fineness import MotionUnits
from vlacut.errors import InputError
from vlacut.measurement.actions.precision import (
    PrecisionWorth,
    fit_precision_table,
    fit_units,
    sensitivities,
)

UNITS = MotionUnits((0, 1, 2), (3, 4, 5), False)
EPS = 0.04


def errors_of(episodes: Episodes, units: MotionUnits, seed: int) -> np.ndarray:
    """Of the program as it is, of 8 bits and of 4, which err the more the finer the arm moves."""
    numbers = np.random.default_rng(seed)
    fine = sensitivities(episodes, units)
    noise = numbers.gamma(4.0, 0.25, (2, episodes.ticks))
    return np.stack([np.zeros_like(fine), 0.01 * noise[0] * (1 + fine), 0.06 * noise[1] * fine])


def fitted(
    eps: float | None = EPS, names: tuple[str, ...] = ("", "int8", "int4")
) -> tuple[PrecisionTable, PrecisionWorth]:
    episodes, _ = episodes_of(range(16))
    units = fit_units(episodes, UNITS)
    errors = errors_of(episodes, units, 1)[[("", "int8", "int4").index(name) for name in names]]
    moves = np.full(episodes.ticks, 0.05)
    every = np.arange(episodes.ticks)
    return fit_precision_table(episodes, UNITS, names, errors, moves, every, 0.1, eps)


def test_finer_movement_takes_a_precision_that_errs_less() -> None:
    table, worth = fitted()
    assert table.precisions == ("", "int8", "int4")
    assert table.levels[0] == 2
    assert table.levels[-1] < 2
    assert list(table.levels) == sorted(table.levels, reverse=True)
    for place, level in enumerate(table.levels):
        assert level == 0 or table.errors[level][place] <= EPS
    assert worth.correlation > 0.3
    assert sum(worth.shares.values()) == pytest.approx(1)
    assert 0 < worth.switches < 0.2
    assert worth.measured == worth.ticks == sum(table.counts)


def test_the_order_of_the_plan_does_not_matter() -> None:
    assert fitted(names=("", "int4", "int8"))[0] == fitted()[0]


def test_what_is_allowed_is_the_policy_s_own_variation() -> None:
    table, _ = fitted(eps=None)
    assert set(table.eps) == {0.05}
    assert set(fitted(eps=1e-9)[0].levels) == {0}
    assert set(fitted(eps=10.0)[0].levels) == {2}


def test_fresh_episodes_err_more_than_is_allowed_as_rarely_as_promised() -> None:
    table, _ = fitted()
    episodes, _ = episodes_of(range(100, 112))
    errors = errors_of(episodes, table.units, 2)
    levels = np.array([table.level(one) for one in sensitivities(episodes, table.units).tolist()])
    taken = errors[levels, np.arange(episodes.ticks)]
    assert (taken > EPS).mean() < 0.15  # for 0.1


def test_too_little_is_refused() -> None:
    episodes, _ = episodes_of(range(1))
    few = np.arange(0, 10)
    with pytest.raises(InputError, match="10 ticks of"):
        fit_precision_table(episodes, UNITS, ["", "int4"], np.zeros((2, 10)), few, few, 0.1, None)


def test_a_bundle_calibrated_from_its_own_episode(
    vlacut: Vlacut, split_bundle: Path, tmp_path: Path
) -> None:
    bundle, episode, table = (tmp_path / name for name in ("p.vlacut", "e.npz", "t.json"))
    strict = {"edges": (), "levels": (0,), "eps": (0.1,), "errors": ((0.0,), (1.0,))}
    units = MotionUnits((0, 1, 2), (3, 4, 5), False)
    write_precision_table(
        table,
        PrecisionTable(precisions=("", "int4"), units=units, alpha=0.1, counts=(20,), **strict),
    )
    package.compile(
        policy(tmp_path),
        edge=slow_memory(tmp_path),
        cloud="a100",
        link="1MB/s,20ms",
        out=bundle,
        precisions="int4",
        pin="*=edge",
        precision_table=table,
    )
    kept = read_bundle(bundle).precision_table_path
    assert kept is not None
    assert kept.read_bytes() == table.read_bytes()
    # A command lasts ten ticks: of one tick it would be over before the next chunk came.
    words = ["run", bundle, "--rate", 200, "--chunk", "action,period=50ms"]
    assert vlacut(*words, "--steps", 60, "--record", episode)[0] == 0
    made = ("calibrate-precision", bundle, episode, "-o", table, "--every", 2)
    status, out, err = vlacut(*made, "--json")
    assert status == 0, err
    found = json.loads(out)
    assert found["ticks"] == 60
    assert [one["precision"] for one in found["precisions"]] == ["as it is", "int4"]
    assert found["precisions"][0]["errors"] == [0.0]
    assert found["precisions"][1]["errors"][0] > 0
    assert read_precision_table(table).precisions == ("", "int4")
    status, out, _ = vlacut(*made, "--eps", 1e15)  # nothing moves, so ranges are next to nothing
    assert status == 0
    assert "in force there" in out
    used = (*words, "--steps", 40, "--controller", "dyq")
    status, out, err = vlacut(*used, "--precision-table", table, "--json")
    assert status == 0, err
    commands = json.loads(out)["loop"]["commands"]
    assert "int4" in {one["precision"] for one in commands}  # all errors are allowed
    assert {one["precision"] for one in json.loads(out)["steps"]} <= {"", "int4"}
    status, out, err = vlacut(*used, "--json")  # by the table in the bundle, which allows nothing
    assert status == 0, err
    assert {one["precision"] for one in json.loads(out)["steps"]} == {""}
    for asked, said in (
        ((*used, "--precision-table", episode), "is no table of precisions"),
        (("calibrate-precision", split_bundle, episode, "-o", table), "one precision alone"),
        ((*made, "--rotation", "999"), "no column 999"),
        ((*made, "--rotation", "x"), "write columns with : between"),
    ):
        status, _, err = vlacut(*asked)
        assert status == 2
        assert said in err
