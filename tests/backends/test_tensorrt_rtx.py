"""TensorRT-RTX parses and builds every part of the zoo, for an A100 and a stand-in for Orin.

Slow: a minute a model. `-m slow tests/test_tensorrt_rtx.py`, with `vlacut[rtx]` installed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import pytest

from vlacut import registry
from vlacut.bundle.opened import Bundle
from vlacut.compiler.driver import compile_program
from vlacut.compiler.target import Target
from vlacut.hardware import Side, load_device
from vlacut.ir.dataflow import weights_of
from vlacut.ir.program import Program
from vlacut_backends.tensorrt.check import TensorRTChecker
from vlacut_backends.tensorrt.rtx import build_in_child, installed

needs_rtx = pytest.mark.skipif(not installed(), reason="needs TensorRT-RTX: vlacut[rtx]")
CHECKPOINT = Path(__file__).parents[2] / "tools" / "random_checkpoint.py"


def vlacut(*words: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "vlacut", *map(str, words), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def assert_built(bundle: Path) -> None:
    for device, said in (("a100", "for sm_80"), ("jetson-agx-orin", "for sm_86, which stands in")):
        found = vlacut("check", bundle, "--target", device)
        for part in found["parts"]:
            assert part["built"].startswith("parse- and build-checked by TensorRT-RTX 1.7"), part
            assert said in part["built"]
            assert part["engine_bytes"] > 0


@needs_rtx
@pytest.mark.slow
@pytest.mark.parametrize("name", registry.names("models"))
def test_every_part_of_a_tiny_model(name: str, tmp_path: Path) -> None:
    """Cut under a budget, with a pool: parts on both sides, and segments of many sizes."""
    program = registry.load("models", name)("tiny")
    for precision, given in (("float16", copied(program)), ("bfloat16", program)):
        bundle = compile_cut(given, precision, tmp_path / precision)
        assert {part.side for part in bundle.plan.parts} == set(Side)
        assert_built(tmp_path / precision)


def copied(program: Program) -> Program:
    phases = tuple(
        replace(phase, model=ir.Model(phase.model.graph.clone(), ir_version=phase.model.ir_version))
        for phase in program.phases
    )
    return Program(program.name, phases, program.inputs, program.outputs, dict(program.meta))


def compile_cut(program: Program, precision: str, path: Path) -> Bundle:
    half = sum(weights_of(program).values()) // 4  # in 16 bits
    target = Target(
        "jetson-agx-orin",
        "a100",
        "1GB/s,0.02ms",
        f"{half}B",
        precision=precision,
        pool=f"portfolio:{half}B",
        bandwidth="1MB/s-10GB/s",
    )
    return compile_program(program, target, path, backend="tensorrt")[1]


@needs_rtx
@pytest.mark.slow
@pytest.mark.parametrize("model", ["openvla:wide", "smolvla:wide"])
def test_every_part_at_full_width(model: str, tmp_path: Path) -> None:
    """Real widths, two layers, float16 from a checkpoint in bfloat16."""
    weights = tmp_path / "weights"
    subprocess.run([sys.executable, str(CHECKPOINT), model, str(weights)], check=True)
    where = ("--edge", "jetson-agx-orin", "--cloud", "a100", "--link", "1GB/s,0.1ms")
    how = ("--precision", "float16", "--backend", "tensorrt", "--no-golden")
    vlacut("compile", model, "--weights", weights, *where, *how, "-o", tmp_path / "b")
    assert_built(tmp_path / "b")


def part(folder: Path, body: str) -> Path:
    path = folder / "part.onnx"
    text = f'<ir_version: 10, opset_import: ["" : 20]> main {body}'
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    return path


@needs_rtx
def test_one_part(tmp_path: Path) -> None:
    fine = part(tmp_path, "(float16[2,4] x) => (float16[2,4] y) { y = Sigmoid(x) }")
    found = TensorRTChecker().check("part", fine, tmp_path, load_device("jetson-agx-orin"), True)
    assert found.built == (
        "parse- and build-checked by TensorRT-RTX 1.7 for sm_86, which stands in for sm_87"
    )
    assert found.seconds > 0
    assert found.peak_bytes > 50e6


@needs_rtx
def test_what_it_refuses_is_said(tmp_path: Path) -> None:
    """Behind the rules' back, to see that it would have been refused."""
    mixed = part(
        tmp_path, "(float16[4] x, float[4] z) => (float[4] y) { [mixed_add] y = Add(x, z) }"
    )
    assert "mixed_add" in build_in_child(mixed, tmp_path, 80).problem
    fine = part(tmp_path, "(float[4] x) => (float[4] y) { y = Abs(x) }")
    assert "does not build for sm_33" in build_in_child(fine, tmp_path, 33).problem
    fine.write_bytes(b"")
    assert build_in_child(fine, tmp_path, 80).problem


def test_a_child_that_dies_is_one_clear_problem(tmp_path: Path) -> None:
    missing = build_in_child(tmp_path / "none.onnx", tmp_path, 80)
    assert "ended with status 1" in missing.problem
    fine = part(tmp_path, "(float[4] x) => (float[4] y) { y = Abs(x) }")
    assert "took more than" in build_in_child(fine, tmp_path, 80, timeout_s=0.01).problem


def test_without_it_the_check_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlacut_backends.tensorrt.check.installed", lambda: False)
    fine = part(tmp_path, "(float[4] x) => (float[4] y) { y = Abs(x) }")
    found = TensorRTChecker().check("part", fine, tmp_path, load_device("a100"), True)
    assert (found.findings, found.built) == ((), "")
    assert "pip install" in found.why_not
