"""State from files: named on the command line, found by its names, or said in a program.toml."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from support.commands import Vlacut
from support.cutting import Reference
from support.onnx_text import write

from vlacut.errors import ModelError
from vlacut.frontends.folder import folder_program
from vlacut.frontends.load import load_program
from vlacut.frontends.remember import parse_state, remember
from vlacut.ir.storage import read_program, write_program

STEP = """step (float[1, 4] image, float[1, 4] h, float[1, 2] c_in)
    => (float[1, 4] action, float[1, 4] next_h, float[1, 2] c_out) {
    sum = Add(image, h)
    next_h = Tanh(sum)
    action = Neg(next_h)
    c_out = Abs(c_in)
}"""
READ = """read (float[1, 4] words) => (float[1, 4] keys) { keys = Tanh(words) }"""
ACT = """act (float[1, 4] image, float[1, 4] keys, float[1, 4] h)
    => (float[1, 4] action, float[1, 4] next_h) {
    seen = Mul(image, keys)
    sum = Add(seen, h)
    next_h = Tanh(sum)
    action = Neg(next_h)
}"""
TOML = """
outputs = ["action"]
[[phase]]
name = "read"
file = "read.onnx"
when = "reset"
[[phase]]
name = "act"
file = "act.onnx"
[state]
next_h = { input = "h", initial = "h.npy", name = "hidden" }
"""
TARGET = ("--edge", "jetson-agx-orin", "--cloud", "a100", "--link", "10MB/s,5ms", "--no-cache")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "step.onnx", STEP)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "read.onnx", READ)
    write(tmp_path / "act.onnx", ACT)
    np.save(tmp_path / "h.npy", np.full((1, 4), 0.5, np.float32))
    (tmp_path / "program.toml").write_text(TOML)
    return tmp_path


def test_a_file_s_state_is_named(file: Path) -> None:
    program = load_program(str(file))
    remember(program, parse_state(program, ["next_h=h"]))
    assert [(one.output, one.input) for one in program.state] == [("next_h", "h")]
    assert [spec.name for spec in program.inputs] == ["image", "c_in"]
    assert [spec.name for spec in program.outputs] == ["action", "c_out"]


def test_auto_takes_pairs_by_their_names_and_says_which(vlacut: Vlacut, file: Path) -> None:
    status, text, said = vlacut("opt", file, "--state", "auto", "--no-cache")
    assert status == 0
    assert "state: next_h -> h, c_out -> c_in" in said
    assert "state next_h -> h: float32[1, 4]" in text
    assert "program step(image: float32[1, 4]) -> (action: float32[1, 4])" in text


@pytest.mark.parametrize(
    ("output", "fed"),
    [
        ("next_h", "h"),
        ("h_out", "h_in"),
        ("present.0.key", "past.0.key"),
        ("present.0.key", "past_key_values.0.key"),
    ],
)
def test_pairs_are_found_by_their_names(file: Path, output: str, fed: str) -> None:
    model = onnx.load(file)
    names = {"next_h": output, "h": fed}
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        for ends in (node.input, node.output):
            ends[:] = [names.get(name, name) for name in ends]
    onnx.save(model, file)
    program = load_program(str(file))
    assert parse_state(program, ["auto"]) == {output: fed, "c_out": "c_in"}


def test_a_folder_says_its_state_and_what_runs_on_reset(folder: Path, tmp_path: Path) -> None:
    program = folder_program(folder)
    assert [(one.name, one.input) for one in program.states] == [("hidden", "h"), ("keys", "keys")]
    assert [spec.name for spec in program.inputs] == ["words", "image"]
    image, words = (np.full((1, 4), each, np.float32) for each in (0.3, 0.7))
    reference, h = Reference(program), np.full((1, 4), 0.5, np.float32)
    for _ in range(3):
        action = reference.step({"image": image, "words": words})["action"]
        h = np.tanh(image * np.tanh(words) + h)
        np.testing.assert_allclose(action, -h, rtol=1e-6)
    (tmp_path / "kept").mkdir()
    write_program(program, tmp_path / "kept")
    again = Reference(read_program(tmp_path / "kept"))
    reference.reset()
    for _ in range(2):
        given = {"image": image, "words": words}
        np.testing.assert_array_equal(again.step(given)["action"], reference.step(given)["action"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--state", "next_h"), "write OUTPUT=INPUT"),
        (("--state", "nex_h=h"), "it has no output nex_h; did you mean next_h?"),
        (("--state", "next_h=g"), "it has no input g"),
        (("--state", "next_h=c_in"), "the output is float32[1, 4], the input float32[1, 2]"),
        (("--state", "next_h=h", "--state", "action=h"), "two outputs for one input"),
        (("--state", "next_h=h", "--state", "next_h=image"), "one output for two"),
    ],
)
def test_what_is_no_state_is_refused_on_one_line(
    vlacut: Vlacut, file: Path, words: tuple[str, ...], says: str
) -> None:
    status, _, said = vlacut("plan", file, *TARGET, *words)
    assert (status, says in said) == (2, True), said
    assert len(said.strip().splitlines()) == 1


def test_auto_says_where_it_finds_nothing(vlacut: Vlacut, tmp_path: Path) -> None:
    file = write(tmp_path / "read.onnx", READ)
    status, _, said = vlacut("plan", file, *TARGET, "--state", "auto")
    assert status == 2
    assert "--state auto finds no pair" in said
    assert len(said.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('input = "h"', 'input = "hh"', "no phase of every step has the input hh"),
        ("next_h =", "nex_h =", "no phase of every step has the output nex_h"),
        ("h.npy", "g.npy", "g.npy: cannot be read"),
        ("h.npy", "../h.npy", "is outside the folder"),
        ('next_h = { input = "h",', 'next_h = { inputs = "h",', "unknown key inputs"),
        ('when = "reset"', 'when = "often"', "when is 'often', must be step or reset"),
        ('name = "act"\n', 'name = "act"\nwhen = "reset"\n', "one of every step after"),
        ("[state]", '[state]\naction = "h"', "two outputs feed state h"),
    ],
)
def test_a_folder_s_mistakes_are_named(folder: Path, old: str, new: str, says: str) -> None:
    text = (folder / "program.toml").read_text()
    assert old in text
    (folder / "program.toml").write_text(text.replace(old, new))
    with pytest.raises(ModelError) as refused:
        folder_program(folder)
    assert says in str(refused.value)


def test_an_initial_value_is_of_the_state_s_shape(vlacut: Vlacut, folder: Path) -> None:
    np.save(folder / "h.npy", np.zeros((4,), np.float32))
    status, _, said = vlacut("plan", folder, *TARGET)
    assert status == 2
    assert "its initial value is float32[4], must be float32[1, 4]" in said
