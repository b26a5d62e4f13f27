"""What a user calls MODEL: files, functions of files, names; and what is said where it is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.torch_models import run_program
from torch import nn

from vlacut.errors import ModelError
from vlacut.frontends.load import load_program
from vlacut.ir.annotation import EXAMPLE
from vlacut.ir.verifier import verify

USER_CODE = """
import torch
from dataclasses import dataclass
from helper import width

@dataclass
class Setting:
    width: "int" = width

def policy():
    torch.manual_seed(0)
    return torch.nn.Linear(Setting().width, 2).eval(), (torch.ones(1, 4),)

def keyword():
    return torch.nn.Linear(4, 2).eval(), (), {"input": torch.ones(1, 4)}

def program():
    from vlacut.frontends.torch import program_from_module
    return program_from_module(*policy(), name="mine")

def number():
    return 3

def broken():
    x = 1
    return x / 0

answer = 42
"""


def test_a_function_of_a_file_gives_a_program(tmp_path: Path) -> None:
    file = tmp_path / "user.py"
    file.write_text(USER_CODE)
    (tmp_path / "helper.py").write_text("width = 4\n")
    for name, program_name in (("policy", "policy"), ("keyword", "keyword"), ("program", "mine")):
        program = load_program(f"{file}:{name}")
        verify(program)
        assert program.name == program_name
        assert program.inputs[0].shape == (1, 4)
        assert set(program.phases[0].model.graph.initializers) == {"weight", "bias"}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("user.py:broken", r"user\.py:26: ZeroDivisionError: division by zero"),
        ("user.py:number", r"user\.py:number returned int; it must return a Program, \(module"),
        ("user.py:missing", r"user\.py: has no function missing"),
        ("user.py:answer", r"user\.py: has no function answer"),
        ("user.py", r"which function of it\? write .*user\.py:FUNCTION"),
        ("none.py:f", r"none\.py: no such file"),
        ("syntax.py:f", r"syntax\.py:2: SyntaxError"),
        ("none.onnx", r"none\.onnx: no such file"),
        ("none.pt2", r"none\.pt2: no such file"),
        ("empty", r"program\.toml: no such file; a folder needs it"),
        ("notes.txt", r"notes\.txt: a file of no kind known, and no model .*MODEL is an \.onnx"),
    ],
)
@pytest.mark.parametrize("from_there", [False, True])
def test_a_model_that_cannot_be_loaded_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, message: str, from_there: bool
) -> None:
    (tmp_path / "user.py").write_text(USER_CODE)
    (tmp_path / "helper.py").write_text("width = 4\n")
    (tmp_path / "syntax.py").write_text("x = 1\ndef f(:\n")
    (tmp_path / "notes.txt").write_text("to do\n")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=message):
        load_program(model if from_there else str(tmp_path / model))


def test_an_unknown_name_says_what_a_model_can_be() -> None:
    with pytest.raises(ModelError, match=r"openvla.*MODEL is an \.onnx file, a \.pt2 file, a fold"):
        load_program("openvlaa")
    with pytest.raises(ModelError, match=r"openvla has no preset huge; its presets: .*tiny"):
        load_program("openvla:huge")


def test_shapes_of_what_has_fixed_shapes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(USER_CODE)
    (tmp_path / "helper.py").write_text("width = 4\n")
    with pytest.raises(ModelError, match="--shape binds those of files and folders"):
        load_program(f"{tmp_path / 'user.py'}:policy", {"input": (1, 4)})


def test_a_pt2_file_is_a_model(tmp_path: Path) -> None:
    module = nn.Linear(4, 2).eval()
    exported = torch.export.export(module, (torch.ones(1, 4),), strict=False)
    torch.export.save(exported, tmp_path / "linear.pt2")
    program = load_program(str(tmp_path / "linear.pt2"))
    verify(program)
    made = run_program(program, EXAMPLE.get(program))["output_0"]
    expected = module(torch.ones(1, 4)).detach().numpy()
    np.testing.assert_allclose(made, expected, rtol=1e-6)
