"""The reproduction: every table is found by its number, and figures say of what kind they are."""

from __future__ import annotations

import re
from types import ModuleType

import pytest
from support.scripts import load

NUMBERS = {
    "RoboECC": [
        *(f"figure {number}" for number in range(1, 8)),
        *("table I", "table II", "table III", "table IV", "tables II and III, loads"),
    ],
    "RAPID": ["table I", "table II", "table III", "table IV"],
    "DyQ-VLA": ["table I, memory", "table I, success", "table II", "ablation"],
    "ActionFlow": ["rates"],
}


@pytest.fixture
def reproduce(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load("reproduce.py", monkeypatch)


def test_every_table_and_figure_is_there(reproduce: ModuleType) -> None:
    tables = [make() for name in reproduce.PAPERS for make in reproduce.PAPERS[name]]
    for name, numbers in NUMBERS.items():
        assert set(numbers) <= {one.number for one in tables if one.paper == name}
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
