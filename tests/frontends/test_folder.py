"""The front end for folders: several graphs, and a description of how they make a program."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from support.onnx_text import write
from support.torch_models import denoiser, run_program

from vlacut.errors import ModelError
from vlacut.frontends.folder import folder_program
from vlacut.frontends.load import load_program
from vlacut.ir.annotation import EXAMPLE
from vlacut.ir.program import Program
from vlacut.ir.verifier import verify

TOML = """
name = "steps"
outputs = ["action"]
[[phase]]
name = "encode"
file = "encode.onnx"
[[phase]]
name = "denoise"
file = "denoise.onnx"
trips = 3
carried = { action = "noise", next_step = "step" }
"""


@cache
def steps() -> Program:
    return denoiser()[1]


def write_folder(folder: Path, text: str = TOML) -> tuple[Path, Program]:
    program = steps()
    for phase in program.phases:
        ir.save(phase.model, folder / f"{phase.name}.onnx")
    (folder / "program.toml").write_text(text)
    return folder, program


def test_a_folder_is_a_program_of_several_phases(tmp_path: Path) -> None:
    folder, program = write_folder(tmp_path)
    loaded = load_program(str(folder))
    verify(loaded)
    assert loaded.name == "steps"
    assert {spec.name for spec in loaded.inputs} == {"image", "noise"}
    example = EXAMPLE.get(program)
    expected = run_program(program, example)["action"]
    np.testing.assert_array_equal(run_program(loaded, example)["action"], expected)
    encode, denoise = (set(phase.model.graph.initializers) for phase in loaded.phases)
    assert "block.0.weight" in encode & denoise


def test_phases_of_a_folder_share_a_weight_only_if_it_is_the_same(tmp_path: Path) -> None:
    write_folder(tmp_path)
    model = onnx.load(tmp_path / "denoise.onnx")
    (bias,) = (item for item in model.graph.initializer if item.name == "block.0.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.zeros(16, np.float32), bias.name))
    onnx.save(model, tmp_path / "denoise.onnx")
    loaded = folder_program(tmp_path)
    weights = set(loaded.phases[1].model.graph.initializers)
    assert {"denoise:block.0.bias", "block.0.weight"} <= weights


def test_an_earlier_phase_binds_the_dimensions_of_a_later(tmp_path: Path) -> None:
    write(tmp_path / "a.onnx", "g (float[n,2] x) => (float[m,1] h) { h = ReduceMax(x, k) }", AXIS)
    write(tmp_path / "b.onnx", "g (float[p,1] h) => (float[p,1] y) { y = Tanh(h) }")
    (tmp_path / "program.toml").write_text(
        'outputs = ["y"]\n[[phase]]\nname = "a"\nfile = "a.onnx"\n'
        '[[phase]]\nname = "b"\nfile = "b.onnx"\n'
    )
    program = load_program(str(tmp_path), {"x": (5, 2)})
    verify(program)
    assert program.outputs[0].shape == (5, 1)
    assert program.name == tmp_path.name
    with pytest.raises(ModelError, match=r"a\.onnx: .*--shape x=1x2"):
        load_program(str(tmp_path))
    with pytest.raises(ModelError, match="no phase has the input z to bind"):
        load_program(str(tmp_path), {"x": (5, 2), "z": (1,)})


AXIS = {"k": np.array([1], np.int64)}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "steps"', "name = 3", r"program\.toml: name must be a str, is 3"),
        (
            'name = "steps"',
            'title = "x"',
            r"unknown key title; known: name, inputs, outputs, phase",
        ),
        ('outputs = ["action"]', "", r"program\.toml: outputs is missing"),
        ('outputs = ["action"]', 'outputs = ["act"]', "no phase has the output act"),
        ('file = "encode.onnx"', "", r"phase 1: file is missing"),
        ('file = "encode.onnx"', 'file = "x.onnx"', r"x\.onnx: no such file"),
        ('file = "encode.onnx"', 'file = "../x.onnx"', "is outside the folder"),
        ("trips = 3", 'trips = "3"', r"phase 2: trips must be a int, is '3'"),
        ("trips = 3", "trips = 0", "phase denoise: trips is 0"),
        ("trips = 3", "turns = 3", "phase 2: unknown key turns"),
        ('next_step = "step"', 'next = "step"', "carried next -> step must lead from an output"),
        ("[[phase]]", "[[phase", r"program\.toml: .*line 4"),
        ('name = "steps"', 'inputs = ["context"]', "input context is read by no phase"),
    ],
)
def test_a_wrong_description_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TOML
    write_folder(tmp_path, TOML.replace(old, new, 1))
    with pytest.raises(ModelError, match=message):
        folder_program(tmp_path)
