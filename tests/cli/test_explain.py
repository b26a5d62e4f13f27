"""`vlacut explain`: what a trace is made of; and for a failure, the line and what helps."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
from support.commands import Vlacut

FAILING = """
import torch; from torch import library

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

class Counter(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(1))
    def forward(self, x):
        self.count += 1
        return x * self.count

@library.custom_op("mine::twist", mutates_args=())
def twist(x: torch.Tensor) -> torch.Tensor:
    return x.roll(1, -1)

twist.register_fake(torch.empty_like)

class Twisted(torch.nn.Module):
    def forward(self, x):
        return twist(x)

def twisted():
    return Twisted(), (torch.ones(3),)

def branch():
    return Branch(), (torch.ones(3),)

def counter():
    return Counter(), (torch.ones(3),)

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
    assert modules["(all)"] == modules["inner"] == modules["inner.0"] == 4 * 8 + 8
    assert found["unpriced"] == []
    status, said, _ = vlacut("explain", f"{file}:grid")
    assert status == 0
    assert "input rows is fixed to the example's value" in said
    assert "inner.0" in said


def test_a_failure_has_its_line_and_three_cures(vlacut: Vlacut, tmp_path: Path) -> None:
    file = tmp_path / "vlacut" / "torch" / "user.py"  # a folder's name makes it no tool's code
    file.parent.mkdir(parents=True)
    file.write_text(FAILING)
    status, said, error = vlacut("explain", f"{file}:branch")
    assert status == 2
    assert f"{file}:6: if x.sum() > 0:" in said
    assert "  3. " in said
    assert len(error.splitlines()) == 1
    assert "depends on the values of a tensor" in error
    _, said, _ = vlacut("explain", f"{file}:branch", "--json")
    failed = json.loads(said)["error"]
    assert failed["line"] == f"{file}:6: if x.sum() > 0:"
    assert len(failed["cures"]) == 3
    assert failed["kind"] == "ModelError"
    _, said, error = vlacut("explain", f"{file}:twisted")
    assert f"{file}:33: return twist(x)" in said
    assert "has no ONNX form" in error
    assert "mine.twist" in error
    _, said, error = vlacut("explain", f"{file}:counter")
    assert f"{file}:22: self.count += 1" in said
    assert "writes into its buffer count" in error


LOOP = """
import torch

class Loop(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.Tanh())
    def forward(self, x):
        for _ in range(4):
            x = self.layers(x) + x
        return x, x.sum(1)

def loop():
    return Loop().eval(), (torch.ones(1, 6),)
"""


def test_what_plan_makes_of_a_model_is_explained(vlacut: Vlacut, tmp_path: Path) -> None:
    file = tmp_path / "user.py"
    file.write_text(LOOP)
    plain, rolled, remembers = (
        json.loads(vlacut("explain", f"{file}:loop", "--json", *more)[1])
        for more in ((), ("--roll", "auto"), ("--state", "output_0=x"))
    )
    assert [phase["trips"] for phase in plain["phases"]] == [1]
    (loop,) = (phase for phase in rolled["phases"] if phase["trips"] > 1)
    assert (loop["name"], loop["trips"]) == ("loop", 4)
    assert loop["operators"] < plain["phases"][0]["operators"]
    assert remembers["state"] == ["output_0 -> x"]


def test_a_file_is_explained_for_bound_shapes(vlacut: Vlacut, tmp_path: Path) -> None:
    body = "<ir_version: 10, opset_import: ['': 20]> g (float[n, 4] x) => (float[n, 4] y)"
    model = onnx.parser.parse_model(body.replace("'", '"') + "{ y = Relu(x) }")
    onnx.save(model, tmp_path / "m.onnx")
    asked = ("explain", tmp_path / "m.onnx", "--json")
    assert vlacut(*asked)[0] == 2
    status, said, _ = vlacut(*asked, "--shape", "x=3x4")
    assert status == 0
    assert json.loads(said)["outputs"] == ["y: float32[3, 4]"]
