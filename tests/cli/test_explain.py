"""`vlacut explain`: what a trace is made of; and for a failure, the line and what helps."""

from __future__ import annotations

import json
from pathlib import Path

from support.commands import Vlacut

FAILING = """
import torch

class Branch(torch.nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return -x

class Grid(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU())
    def forward(self, x, rows):
        return self.inner(x).reshape(int(rows), -1)

def branch():
    return Branch(), (torch.ones(3),)

def grid():
    return Grid().eval(), (torch.ones(2, 4), torch.tensor(4))
"""


def test_a_trace_is_explained(vlacut: Vlacut, tmp_path: Path) -> None:
    file = tmp_path / "user.py"
    file.write_text(FAILING)
    status, said, _ = vlacut("explain", f"{file}:grid", "--json")
    assert status == 0
    found = json.loads(said)
    assert found["inputs"] == ["x: float32[2, 4]", "rows: int64[]"]
    assert found["fixed"] == {"rows": 4}
    assert found["phases"][0]["outputs"] == ["output_0: float32[4, 4]"]
    modules = {row["module"]: row["parameters"] for row in found["modules"]}
    assert modules["inner"] == modules["inner.0"] == 4 * 8 + 8
    assert found["unpriced"] == []
    status, said, _ = vlacut("explain", f"{file}:grid")
    assert status == 0
    assert "input rows is fixed to the example's value" in said
    assert "inner.0" in said


def test_a_failure_has_its_line_and_three_cures(vlacut: Vlacut, tmp_path: Path) -> None:
    file = tmp_path / "user.py"
    file.write_text(FAILING)
    status, said, error = vlacut("explain", f"{file}:branch")
    assert status == 2
    assert f"{file}:6: if x.sum() > 0:" in said
    assert "  3. " in said
    assert len(error.splitlines()) == 1
    assert "depends on the values of a tensor" in error
