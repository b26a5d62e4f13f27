"""What stays exact: the usual list by name, and rows whose choice holds the list's error."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from support.scripts import load

from vlacut.frontends.load import load_program
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Program

POLICY = '''
import torch
from torch import nn


class Policy(nn.Module):
    """Patches, a row of five blocks, one of two, and a head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Linear(64, 64)
        self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(5))
        self.blocks = nn.ModuleList(nn.Linear(64, 64) for _ in range(2))
        self.head = nn.Linear(64, 64)

    def forward(self, image):
        seen = self.patches(image)
        for layer in [*self.layers, *self.blocks]:
            seen = seen + layer(seen).tanh()
        return self.head(seen)


def make():
    torch.manual_seed(1)
    return Policy(), (torch.randn(1, 64),)
'''


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load("exact_layers.py", monkeypatch)


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "policy.py").write_text(POLICY)
    return f"{tmp_path / 'policy.py'}:make"


@pytest.fixture
def plain(model: str) -> Program:
    program = load_program(model)
    parse_pipeline("simplify,annotate-structure").run(program)
    return program


def test_the_list_is_what_is_outside_and_the_ends_of_a_row(
    tool: ModuleType, plain: Program
) -> None:
    """A row of two has no middle, so none of it is in the list."""
    named = {re.sub(r"\.weight.*", "", name) for name in tool.fixed_list(plain)}
    assert named == {"patches", "layers.0", "layers.4", "head"}


def test_the_choice_holds_the_error_of_the_list(
    tool: ModuleType,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["exact_layers.py", model])
    tool.main()
    rows = dict[str, tuple[float, float]]()
    for line in capsys.readouterr().out.splitlines():
        found = re.search(r" (\w+): ([\d.]+)% of the bytes, .* rounded by ([\d.e-]+)$", line)
        assert found, line
        rows[found[1]] = float(found[2]), float(found[3])
    assert list(rows) == ["none", "list", "measured"]
    assert rows["none"][0] < rows["list"][0] < 100
    assert 0 < rows["measured"][1] <= rows["list"][1] * 1.01 < rows["none"][1]
