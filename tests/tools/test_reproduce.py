"""The reproduction: every table is found by its number, and figures say of what kind they are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from support.scripts import load

from vlacut.bundle.reading import open_bundle

NUMBERS = {
    "RoboECC": [
        *(f"figure {number}" for number in range(1, 8)),
        *("table I", "table II", "table III", "table IV", "tables II and III, loads"),
    ],
    "RAPID": ["table I", "table II", "table III", "table IV"],
    "DyQ-VLA": ["table I, memory", "table I, success", "table I, speed", "table II", "ablation"],
    "ActionFlow": ["rates", "rates, our graph", "RTX 5090", "Thor, INT4", "a layer on Thor"],
}


@pytest.fixture
def reproduce(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load("reproduce.py", monkeypatch)


@pytest.fixture
def full_size(reproduce: ModuleType) -> set[Callable[..., Any]]:
    """What traces OpenVLA-7B, which takes minutes."""
    return {*reproduce.adjustment.OVER_NETWORK, reproduce.actionflow.graph_rates}


def test_every_table_and_figure_is_there(
    reproduce: ModuleType, full_size: set[Callable[..., Any]]
) -> None:
    makes = [make for makes in reproduce.PAPERS.values() for make in makes]
    assert full_size < {*makes}
    tables = [make() for make in makes if make not in full_size]
    checked(reproduce, tables)
    for name, numbers in NUMBERS.items():
        made = {one.number for one in tables if one.paper == name}
        assert {*numbers} - {"table IV", "figure 7", "rates, our graph"} <= made


def test_rows_of_the_closed_loop_are_those_of_its_report(
    reproduce: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What the report left is what stands there; a row that was not run has no figure."""
    ran = {"won": 57, "episodes": 60, "low": 0.861, "high": 0.99, "busy_ms": 12.34, "free": 0.875}
    left = {
        "precisions-flow": {"title": "", "rows": {"W8A8": ran}},
        "controllers-tokens-nuwins_uplink-noise": {"title": "", "rows": {"entropy": ran}},
        "controllers-flow-nuwins_uplink": {"title": "", "rows": {"rapid": ran}},
    }
    path = tmp_path / "figures.json"
    path.write_text(json.dumps(left))
    monkeypatch.setattr(reproduce.rapid.episodes, "FIGURES", path)
    makes = (*reproduce.rapid.TABLES[:2], reproduce.dyqvla.success)
    cells = {row.what: row for make in makes for row in make().rows}
    assert cells["belt, W8A8"].ours == "57 of 60, 86% to 99%"
    assert cells["entropy, noise, a step"].ours == "12.3 ms; 57 of 60 succeed"
    assert cells["flow on the belt"].ours == "87.5%"
    assert str(cells["flow on the belt"].kind) == "closed loop"
    assert not cells["entropy, undisturbed, a step"].ours
    assert str(cells["entropy, undisturbed, a step"].kind) == "not had"


@pytest.mark.slow
def test_every_table_and_figure_is_there_in_full(reproduce: ModuleType) -> None:
    tables = [make() for makes in reproduce.PAPERS.values() for make in makes]
    checked(reproduce, tables)
    for name, numbers in NUMBERS.items():
        assert set(numbers) <= {one.number for one in tables if one.paper == name}
    cells = {(one.number, row.what): row for one in tables for row in one.rows}
    assert cells["table IV", "network-aware adjustment, total"].paper == "354.4 ms"
    assert cells["rates, our graph", "Orin, eager, 7 in flight"].paper == "313 ms, 3.19/s"
    share = cells["table I, memory", "share"]
    assert share.paper == "30.9 %"
    assert 25 < float(share.ours.removesuffix("%")) <= 30.9


def test_the_adjustment_is_simulated_over_a_network_that_changes(
    reproduce: ModuleType, monkeypatch: pytest.MonkeyPatch, split_bundle: Path, tmp_path: Path
) -> None:
    made = reproduce.adjustment
    plan = open_bundle(split_bundle).plan
    monkeypatch.setattr(made, "planned", lambda: plan)
    monkeypatch.setattr(made, "_SAMPLES", 20)
    made.networks.cache_clear()
    walked = np.array(made.walk(0).rates)
    assert walked.min() >= 1e6 > walked.max() / 10.001
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("time_s,mbit_per_s\n0,8\n1,80\n2,8\n")
    for traces in (None, tmp_path):
        tables = [make(traces) for make in made.OVER_NETWORK]
        cells = {row.what: row.ours for one in tables for row in one.rows}
        assert cells["edge only"] == made.ms(
            next(row.price.total_s for row in plan.strategies if row.name == "all-edge")
        )
        best, fixed = (
            float(cells[what].split()[0])
            for what in ("adjusted by who knows the network", "co-aware segmentation, total")
        )
        assert best <= fixed
        assert tables[1].chart.lines
        text, page = reproduce.text_of(tables), reproduce.page_of(tables)
        assert "354.4 ms" in text
        assert "figure 7" in page.lower()
        made.networks.cache_clear()


def checked(reproduce: ModuleType, tables: Sequence[Any]) -> None:
    """What holds of every table; of RoboECC's, the cells that fix the devices."""
    text, page = reproduce.text_of(tables), reproduce.page_of(tables)
    assert max(map(len, text.splitlines())) <= reproduce.WIDTH
    assert len(page) < 400_000
    for table in tables:
        assert table.rows or table.note
        assert f"{table.paper}, {table.number}: {table.title}" in " ".join(text.split())
        for row in table.rows:
            assert bool(row.ours) is (str(row.kind) != "not had")
    cells = {(one.number, row.what): row for one in tables for row in one.rows}
    assert cells["table II", "Orin, roboecc, cloud"].paper == "136.7 ms"
    assert cells["table III", "Thor, roboecc, edge"].paper == "105.7 ms"
    fitted = [row for row in cells.values() if str(row.kind) == "fitted" and row.paper]
    assert len(fitted) == 6
    for row in fitted:  # what a device is fitted to is met within some per cent
        paper, ours = (float(re.findall(r"[\d.]+", text)[0]) for text in (row.paper, row.ours))
        assert ours == pytest.approx(paper, rel=0.1)
