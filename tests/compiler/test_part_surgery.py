"""Surgery on parts: what engines are built of, in the hands of a function of the user's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.commands import Vlacut
from support.fake_machine import TARGET, fake_machine
from support.programs import looping_program

from vlacut.bundle.opened import Bundle
from vlacut.compiler.driver import compile_program
from vlacut.compiler.part_surgery import Operation, parse_operation
from vlacut.errors import BackendError, InputError, PassError, UnsupportedError, VerificationError
from vlacut.hardware import Side
from vlacut.runtime.engines import load_engines
from vlacut.runtime.verification import verify_bundle
from vlacut_backends.tensorrt.engine_builder import TensorRTEngineBuilder

pytest.importorskip("onnx_graphsurgeon")

FIX = """
import pathlib
import numpy as np
import onnx_graphsurgeon as gs

def clipped(graph):
    "What Tanh makes is between -1 and 1 as it is."
    with pathlib.Path(__file__).with_name("called").open("a") as file:
        print(graph.name, file=file)
    for node in [node for node in graph.nodes if node.op == "Tanh"]:
        made = node.outputs[0]
        plain = gs.Variable(made.name + "_plain", made.dtype, made.shape)
        node.outputs[0] = plain
        bounds = [gs.Constant(made.name + str(at), np.array(at, np.float32)) for at in (-1, 1)]
        operands = [plain, *bounds]
        graph.nodes.append(gs.Node("Clip", node.name + "_clip", inputs=operands, outputs=[made]))
    return graph.cleanup()

def halved(graph):
    for tensor in graph.tensors().values():
        if isinstance(tensor, gs.Constant) and tensor.name == "head.refine":
            tensor.values = tensor.values * np.float32(0.5)

def plugin(graph):
    for node in graph.nodes:
        if node.op == "Tanh":
            node.op, node.domain = "TanhPlugin", "mine"

def marks(graph):
    graph.outputs.append(graph.nodes[0].outputs[0])

def renames(graph):
    graph.outputs[0].name = "other"

def dangles(graph):
    graph.nodes[0].inputs[0] = gs.Variable("nowhere", np.float32, (1, 64))

def twice(graph):
    graph.nodes[-1].name = graph.nodes[0].name = "one"
    graph.nodes.append(gs.Node("Neg", "one", inputs=[graph.inputs[0]],
        outputs=[gs.Variable("more", np.float32, (1, 64))]))
    graph.nodes.append(gs.Node("Neg", "two", inputs=[graph.nodes[-1].outputs[0]],
        outputs=[gs.Variable("most", np.float32, (1, 64))]))
"""
PAIR = "edge=onnxruntime,cloud=tensorrt"


@pytest.fixture
def fix(tmp_path: Path) -> str:
    (tmp_path / "fix.py").write_text(FIX)
    return str(tmp_path / "fix.py")


def compiled(folder: Path, surgery: str, backend: str = PAIR) -> Bundle:
    target = replace(TARGET, surgery=(surgery,))
    out = folder / "policy.vlacut"
    return compile_program(looping_program(), target, out, backend=backend)[1]


def kinds(bundle: Bundle, side: Side) -> list[str]:
    paths = [bundle.part_path(part) for part in bundle.parts(side)]
    models = [onnx.load(str(path), load_external_data=False) for path in paths]
    return [node.op_type for model in models for node in model.graph.node]


def test_a_function_gets_the_parts_of_its_side_as_engines_are_built_of_them(
    fix: str, tmp_path: Path
) -> None:
    bundle = compiled(tmp_path, f"cloud={fix}:clipped")
    called = (tmp_path / "called").read_text().split()
    assert called == [part.name for part in bundle.parts(Side.CLOUD)]
    assert kinds(bundle, Side.CLOUD).count("Clip") == kinds(bundle, Side.CLOUD).count("Tanh") > 0
    assert "Clip" not in kinds(bundle, Side.EDGE)
    assert not (bundle.root / "before-surgery").exists()


def test_an_engine_is_compared_with_the_part_before(
    fix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a surgery that changes what a part computes does not come to be served."""
    bundle = compiled(tmp_path, f"cloud={fix}:halved")
    with (
        fake_machine(monkeypatch, tmp_path / "engines"),
        pytest.raises(BackendError, match="its engine is off by"),
    ):
        TensorRTEngineBuilder().build(bundle, Side.CLOUD, "", lambda *_: None)


def test_a_changed_weight_is_the_parts_own(fix: str, tmp_path: Path) -> None:
    """The uncut phases have the same weight, and go on having it."""
    bundle = compiled(tmp_path, f"cloud={fix}:halved", "onnxruntime")
    found = {}
    for path in sorted(bundle.root.glob("*/*.onnx")):
        model = onnx.load(str(path), load_external_data=False)
        onnx.load_external_data_for_model(model, str(bundle.root))
        weights = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
        found |= {
            (path.parent.name, name): array
            for name, array in weights.items()
            if name.startswith("head.refine")
        }
    (whole,) = (array for (room, _), array in found.items() if room == "whole")
    (part,) = (array for (room, _), array in found.items() if room == "parts")
    np.testing.assert_array_equal(part, whole * np.float32(0.5))
    results = {result.comparison: result.passed for result in verify_bundle(bundle)}
    assert not all(results.values())


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (
            "plugin",
            UnsupportedError,
            "TanhPlugin .* domain mine, for which TensorRT needs a plugin",
        ),
        ("marks", PassError, r"fix\.py:marks on part .*: changed the outputs"),
        ("renames", PassError, "changed the outputs: other float32"),
        ("dangles", PassError, "reads nowhere, which nothing makes"),
        ("missing", PassError, "there is no function 'missing' in it"),
        ("twice", VerificationError, "not unique"),
    ],
)
def test_what_breaks_a_part_is_one_line(
    fix: str, tmp_path: Path, function: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as found:
        compiled(tmp_path, f"cloud={fix}:{function}")
    assert "\n" not in str(found.value)
    assert not (tmp_path / "policy.vlacut").exists()


def test_a_plugin_goes_to_a_builder_of_ones_own(fix: str, tmp_path: Path) -> None:
    target = replace(TARGET, surgery=(f"cloud={fix}:plugin",))
    out = tmp_path / "policy.vlacut"
    _, bundle = compile_program(looping_program(), target, out, backend="onnx", golden=False)
    assert "TanhPlugin" in kinds(bundle, Side.CLOUD)
    assert "TanhPlugin" not in kinds(bundle, Side.EDGE)


def test_onnx_runtime_names_what_it_lacks(fix: str, tmp_path: Path) -> None:
    bundle = compiled(tmp_path, f"cloud={fix}:plugin", "onnxruntime")
    with pytest.raises(UnsupportedError, match=r"TanhPlugin.* is not a registered function/op"):
        load_engines(bundle, Side.CLOUD)


def test_the_command_ends_with_2(vlacut: Vlacut, fix: str, tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["": 20]> main (float[1, 4] x) => (float[1, 4] y)'
    onnx.save(onnx.parser.parse_model(f"{text} {{ y = Tanh (x) }}"), str(tmp_path / "small.onnx"))
    command = ["compile", tmp_path / "small.onnx", "--edge", "a100", "--cloud", "a100", "--link"]
    out = tmp_path / "policy.vlacut"
    asked = [*command, "10GB/s,0us", "--pin", "*=cloud", "--surgery", f"cloud={fix}:renames"]
    status, _, said = vlacut(*asked, "-o", out)
    assert status == 2
    assert "changed the outputs" in said
    assert not out.exists()


def test_what_is_for_what() -> None:
    assert parse_operation("a=b/fix.py:fix") == Operation("a=b/fix.py", "fix")
    assert parse_operation("edge=fix.py:fix") == Operation("fix.py", "fix", Side.EDGE)
    for text in ("fix.py", "edge=fix:me", "cloud=fix.py:"):
        with pytest.raises(InputError, match=r"write FILE\.py:FUNCTION for phases, or edge="):
            parse_operation(text)
