"""Inputs of ONNX files that are settings: once fixed, they are constants, and branches fold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.commands import Vlacut

import vlacut as api
from vlacut.compiler.trace_cache import TraceCache
from vlacut.compiler.tracing import traced_program
from vlacut.errors import InputError, ModelError
from vlacut.frontends.fixing import parse_fixed
from vlacut.frontends.load import load_program
from vlacut.ir.original import ORIGINAL
from vlacut.ir.printer import print_program

# As a detector of speech has it: one network for each sampling rate, of other shapes.
RATES = """<ir_version: 10, opset_import: ["": 20]>
g (float[1, 4] x, int64 sr) => (float[1, n] y)
<int64 rate = {16000}>
{
    high = Equal(sr, rate)
    y = If(high) <
        then_branch = t () => (float[1, a] p) { p = Relu(x) },
        else_branch = e () => (float[1, b] q) { q = Concat<axis=1>(x, x) }
    >
}"""
TARGET = {"edge": "jetson-agx-orin", "cloud": "a100", "link": "10MB/s,20ms"}
X = np.array([[-1, 2, -3, 4]], np.float32)


@pytest.fixture
def rates(tmp_path: Path) -> Path:
    onnx.save(onnx.parser.parse_model(RATES), tmp_path / "rates.onnx")
    return tmp_path / "rates.onnx"


@pytest.mark.parametrize(("rate", "operator", "width"), [(16000, "Relu", 4), (8000, "Concat", 8)])
def test_a_branch_is_chosen_for_good(rates: Path, rate: int, operator: str, width: int) -> None:
    with pytest.raises(ModelError, match="shape"):
        load_program(str(rates))
    program = load_program(str(rates), fixed={"sr": (rate,)})
    assert [spec.name for spec in program.inputs] == ["x"]
    assert [node.op_type for node in program.phases[0].model.graph] == [operator]
    made = ORIGINAL.get(program)().phases["main"]({"x": X})["y"]
    assert made.shape == (1, width)


def test_a_bundle_is_held_to_the_file(rates: Path, tmp_path: Path) -> None:
    out = tmp_path / "rates.vlacut"
    bundle = api.compile(str(rates), **TARGET, fixed={"sr": 16000}, cache=False, out=out)
    assert bundle.manifest.model_check.difference == 0
    with api.connect(out) as policy:
        np.testing.assert_array_equal(policy.step({"x": X})["y"], np.maximum(X, 0))


def test_another_value_is_another_trace(rates: Path, tmp_path: Path) -> None:
    cache = TraceCache(tmp_path / "traces")
    texts = [
        print_program(traced_program(str(rates), {}, cache, pytest.fail, {"sr": (rate,)}))
        for rate in (16000, 8000, 16000)
    ]
    assert texts[0] == texts[2] != texts[1]
    assert len(cache.entries()) == 2
    kept = traced_program(str(rates), {}, cache, pytest.fail, {"sr": (16000,)})
    made = ORIGINAL.get(kept)().phases["main"]({"x": X})["y"]
    np.testing.assert_array_equal(made, np.maximum(X, 0))


def test_a_folder_and_the_command_line(vlacut: Vlacut, rates: Path) -> None:
    folder = rates.parent
    (folder / "program.toml").write_text(
        'outputs = ["y"]\n[[phase]]\nname = "one"\nfile = "rates.onnx"\n'
    )
    for model in (folder, rates):
        status, said, _ = vlacut("explain", model, "--fix", "sr=8000", "--no-cache", "--json")
        assert status == 0
        assert json.loads(said)["outputs"] == ["y: float32[1, 8]"]
    for model in (folder, rates):
        status, _, said = vlacut("explain", model, "--fix", "rate=8000", "--no-cache")
        assert status == 2
        assert "the input rate to fix" in said or "no input rate to fix" in said


def test_items_are_numbers() -> None:
    assert parse_fixed(["sr=16000", "on=true", "size=4,0.5"]) == {
        "sr": (16000,),
        "on": (True,),
        "size": (4, 0.5),
    }
    for wrong in ("sr", "=1", "sr=", "sr=high", "sr=1,,2"):
        with pytest.raises(ModelError, match="write NAME=VALUE"):
            parse_fixed([wrong])
    with pytest.raises(ModelError, match="fixed twice"):
        parse_fixed(["a=1", "a=2"])


@pytest.mark.parametrize(
    ("numbers", "message"), [((1, 2), "holds 1 elements"), ((0.5,), r"holds no 0\.5")]
)
def test_what_an_input_cannot_hold(rates: Path, numbers: tuple[float, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_program(str(rates), fixed={"sr": numbers})


def test_a_module_has_no_inputs_of_a_file() -> None:
    with pytest.raises(ModelError, match="fix it in the module"):
        load_program("vit-mlp:tiny", fixed={"sr": (1,)})
    with pytest.raises(InputError, match="fix it in the module"):
        api.plan(lambda: None, **TARGET, fixed={"sr": 1})
