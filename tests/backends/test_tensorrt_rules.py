"""What a target cannot do is said before TensorRT sees the part, and names the operator."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.onnx_text import write
from support.pictures import camera_program
from support.programs import TARGET, looping_program

from vlacut.backend import Checked
from vlacut.bundle.reading import open_bundle
from vlacut.compiler.driver import compile_program
from vlacut.errors import BackendError
from vlacut.frontends.onnx import onnx_program
from vlacut.hardware import Side, load_device
from vlacut_backends.onnxruntime.execute import OnnxRuntimeExecutor
from vlacut_backends.tensorrt.build import derive
from vlacut_backends.tensorrt.check import TensorRTChecker
from vlacut_backends.tensorrt.recipe import from_texts, parse_version
from vlacut_backends.tensorrt.support import first_release, types_of

HEAD = '<ir_version: 10, opset_import: ["" : {}]>'


def checked(
    tmp_path: Path, model: str | onnx.ModelProto, device: str = "a100", opset: int = 20
) -> Checked:
    """A part of this text, checked without building."""
    proto = onnx.parser.parse_model(HEAD.format(opset) + model) if isinstance(model, str) else model
    path = tmp_path / "part.onnx"
    path.write_bytes(proto.SerializeToString())
    return TensorRTChecker().check("part", path, tmp_path, load_device(device), build=False)


def only(found: Checked) -> tuple[str, str]:
    """The rule and the sentence of its one finding."""
    (finding,) = found.findings
    return finding.rule, str(finding)


FINE = "main (float[2,4] x) => (float[2,4] y) { y = Softmax(x) }"
MIXED = """main (float16[2,4] x, float[2,4] z) => (float[2,4] y) {
    [blocks_0_add] y = Add(x, z)
}"""
BFLOAT16 = "main (bfloat16[2,4] x) => (bfloat16[2,4] y) { [soft] y = Softmax(x) }"
UNIQUE = "main (float[4] x) => (float[n] y) { [seen] y = Unique(x) }"
NONZERO = "main (float[4] x) => (int64[1,n] y) { [where_set] y = NonZero(x) }"
DOUBLE = "main (double[4] x) => (double[4] y) { [twice] y = Add(x, x) }"
COUNT = "main (int64[4] x) => (int64[4] y) <int64 a = {0}> { [count] y = CumSum(x, a) }"
AXES = "main (float[4,4] x, int64[1] a) => (float[m,n] y) { [total] y = ReduceSum(x, a) }"
ATTENTION = """main (float[1,2,5,4] q) => (float[1,2,5,4] y) { [attend] y = Attention(q, q, q) }"""
PLUGIN = '<ir_version: 10, opset_import: ["" : 20, "my" : 1]> main (float[4] x) => (float[4] y) {'


def test_what_a_target_can_do_passes(tmp_path: Path) -> None:
    found = checked(tmp_path, FINE)
    assert found.findings == ()
    assert found.built == ""


@pytest.mark.parametrize(
    ("text", "rule", "said"),
    [
        (MIXED, "mixed-types", r"Add blocks_0_add reads x as float16 and z as float32; cast one"),
        (UNIQUE, "operator", r"Unique seen is not in TensorRT 10.3"),
        (NONZERO, "data-dependent", r"NonZero where_set makes a tensor whose shape depends"),
        (DOUBLE, "element-type", r"Add twice is of float64"),
        (COUNT, "operator-type", r"CumSum count reads x as int64; TensorRT 10.3 takes bfloat16"),
        (AXES, "constant-input", r"ReduceSum total takes a from a computation"),
    ],
)
def test_what_no_gpu_can_do_is_named(tmp_path: Path, text: str, rule: str, said: str) -> None:
    found = only(checked(tmp_path, text))
    assert found[0] == rule
    assert re.match(said, found[1]), found[1]


def float8() -> onnx.ModelProto:
    """An input through float8 and back, as quantisation puts it before a product."""
    scale = numpy_helper.from_array(np.float32(0.1), "scale")
    quantise = helper.make_node(
        "QuantizeLinear", ["x", "scale", "zero"], ["small"], name="mlp_fc1_input"
    )
    back = helper.make_node("DequantizeLinear", ["small", "scale"], ["y"], name="back")
    zero = helper.make_tensor("zero", TensorProto.FLOAT8E4M3FN, [], b"\0", raw=True)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 4]) for name in "xy"]
    graph = helper.make_graph([quantise, back], "main", ends[:1], ends[1:], [scale, zero])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("device", ["a100", "jetson-agx-orin"])
def test_float8_where_no_unit_has_it(tmp_path: Path, device: str) -> None:
    found = checked(tmp_path, float8(), device)
    sm = derive(load_device(device)).sm
    said = f"is of float8e4m3fn, which GPUs have from sm_89 on; {device} is sm_{sm}"
    assert [str(finding) for finding in found.findings] == [
        f"QuantizeLinear mlp_fc1_input {said}",
        f"DequantizeLinear back {said}",
    ]


@pytest.mark.parametrize("device", ["h100", "jetson-agx-thor", "rtx-4090"])
def test_float8_where_there_is(tmp_path: Path, device: str) -> None:
    assert checked(tmp_path, float8(), device).findings == ()


def profile_of(tmp_path: Path, **changes: str) -> str:
    """A profile like that of the A100, but for its [cuda]."""
    text = (files("vlacut") / "hardware/profiles/a100.toml").read_text()
    for name, value in changes.items():
        old = next(line for line in text.splitlines() if line.startswith(f"{name} = "))
        text = text.replace(f"\n{old}\n", f"\n{name} = {value}\n", 1)
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


def test_bfloat16_on_a_gpu_that_is_too_old(tmp_path: Path) -> None:
    rule, said = only(checked(tmp_path, BFLOAT16, profile_of(tmp_path, sm="75")))
    assert rule == "element-type"
    assert said.startswith("Softmax soft is of bfloat16, which GPUs have from sm_80 on")


def int4() -> onnx.ModelProto:
    """A product whose weight is in blocks of 4 bits."""
    codes = helper.make_tensor("codes", TensorProto.INT4, [32, 4], [1] * 128)
    scales = numpy_helper.from_array(np.ones((2, 4), np.float32), "scales")
    blocks = {"axis": 0, "block_size": 16}
    restored = helper.make_node("DequantizeLinear", ["codes", "scales"], ["w"], "restore", **blocks)
    product = helper.make_node("MatMul", ["x", "w"], ["y"], name="multiply")
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, size])
        for name, size in (("x", 32), ("y", 4))
    ]
    graph = helper.make_graph([restored, product], "main", ends[:1], ends[1:], [codes, scales])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def test_weights_of_4_bits_on_a_gpu_that_is_too_old(tmp_path: Path) -> None:
    newer = profile_of(tmp_path, oldest='"10.15"')
    assert checked(tmp_path, int4(), newer, opset=21).findings == ()
    older = profile_of(tmp_path, sm="75", oldest='"10.15"')
    rule, said = only(checked(tmp_path, int4(), older, opset=21))
    assert rule == "element-type"
    assert said.startswith("DequantizeLinear restore is of int4, which GPUs have from sm_80 on")


def test_an_embedding_of_4_bits(tmp_path: Path) -> None:
    proto = int4()
    product = proto.graph.node[1]
    product.op_type = "Gather"
    product.input[:] = ["w", "x"]
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.INT64, [2]))
    rule, said = only(checked(tmp_path, proto, profile_of(tmp_path, oldest='"10.15"'), opset=21))
    assert rule == "restriction"
    assert said == (
        "Gather multiply reads rows of codes, of which TensorRT makes floats at every run, all of "
        "them"
    )


def test_an_operator_set_that_is_too_new(tmp_path: Path) -> None:
    opset, attention = checked(tmp_path, ATTENTION, opset=23).findings
    assert str(opset).startswith("the part is of opset 23; TensorRT 10.3 is known to read up to 20")
    assert "Attention attend is not in TensorRT 10.3, which has it from 10.15 on" in str(attention)
    newer = profile_of(tmp_path, oldest='"10.15"')
    assert checked(tmp_path, ATTENTION, newer, opset=23).findings == ()


def test_a_type_whose_release_came_later(tmp_path: Path) -> None:
    """The GPU has it, and not every release of the recipe."""
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Identity", ["x"], ["y"], name="four_bits")],
            "main",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT4E2M1, [4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT4E2M1, [4])],
        ),
        opset_imports=[helper.make_opsetid("", 23)],
        ir_version=11,
    )
    device = profile_of(tmp_path, sm="120")
    said = [str(finding) for finding in checked(tmp_path, model, device).findings]
    assert (
        "Identity four_bits is of float4e2m1, which TensorRT has from 10.8 on; the recipe begins "
        "at 10.3" in said
    )


DLA = """main (float16[1,4,8,8] x, float16[8,4] v) => (float16[1,4,8,4] y) {
    [fine] a = Relu(x)
    [product] y = MatMul(a, v)
}"""


def test_what_a_dla_cannot_do(tmp_path: Path) -> None:
    path = tmp_path / "part.onnx"
    path.write_bytes(onnx.parser.parse_model(HEAD.format(20) + DLA).SerializeToString())
    check = TensorRTChecker().check
    orin = load_device("jetson-agx-orin")
    part, product = check("part", path, tmp_path, orin, True, dla=True).findings
    assert "none after 10.7 and before 11.4.1 has it" in str(part)
    assert str(product) == "MatMul product is not among the layers of a DLA"
    (none,) = check("part", path, tmp_path, load_device("jetson-agx-thor"), True, True).findings
    assert str(none) == "the part cannot go to a DLA: jetson-agx-thor has none"
    assert check("part", path, tmp_path, orin, False).findings == ()


def test_an_operator_of_another_domain(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(PLUGIN + " [gate] y = my.Gate(x) }")
    rule, said = only(checked(tmp_path, model))
    assert (rule, said.partition(",")[0]) == ("operator", "Gate gate is of domain my")


def test_onnx_itself_may_object(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(HEAD.format(20) + FINE)
    model.graph.node[0].attribute.append(helper.make_attribute("axes", 3))
    rule, said = only(checked(tmp_path, model))
    assert rule == "onnx"
    assert "axes" in said


def test_what_is_no_onnx_is_refused(tmp_path: Path) -> None:
    (tmp_path / "part.onnx").write_bytes(b"\xff" * 40)
    with pytest.raises(BackendError, match="is no ONNX file"):
        TensorRTChecker().check(
            "part", tmp_path / "part.onnx", tmp_path, load_device("a100"), False
        )


def test_the_table_knows_releases() -> None:
    assert types_of("Attention", parse_version("10.14")) is None
    assert ir.DataType.BFLOAT16 in (types_of("Attention", parse_version("11.4")) or ())
    assert ir.DataType.INT64 not in (types_of("Pow", parse_version("10.3")) or ())
    assert ir.DataType.INT64 in (types_of("Pow", parse_version("10.15")) or ())
    assert first_release("STFT") == "10.5"
    assert first_release("Unique") == ""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program with a loop, in float16, with parts on both machines."""
    path = tmp_path_factory.mktemp("tensorrt") / "policy.vlacut"
    target = replace(TARGET, cloud_budget="9kB", precision="float16")
    _, made = compile_program(looping_program(), target, path, backend="tensorrt")
    assert {part.side for part in made.plan.parts} == set(Side)
    return path


def test_the_bundle_holds_a_recipe_a_side_and_a_golden_run_of_each_part(bundle: Path) -> None:
    opened = open_bundle(bundle)
    recipes = {side: from_texts(opened.recipe(side)) for side in Side}
    assert (recipes[Side.EDGE].sm, recipes[Side.CLOUD].sm) == (87, 80)
    for part in opened.plan.parts:
        golden = opened.part_golden(part)
        assert golden is not None
        assert set(golden) == {*part.inputs, *part.outputs}
        for key, array in golden.items():
            opened.plan.spec[key].check(array)
            assert np.isfinite(array.astype(np.float64)).all()
        engine = OnnxRuntimeExecutor().load(opened.part_path(part), opened.root, {})
        for key, array in engine.run({key: golden[key] for key in part.inputs}).items():
            np.testing.assert_allclose(array, golden[key], atol=2e-3)


def test_every_part_of_a_bundle_holds(bundle: Path) -> None:
    command = [sys.executable, "-m", "vlacut", "check", str(bundle), "--no-build", "--json"]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert found["passed"]
    assert {part["device"] for part in found["parts"]} == {"jetson-agx-orin", "a100"}
    assert all(part["built"] == "" for part in found["parts"])


def test_cameras_of_bytes_pass_the_check_and_what_fails_fails_at_compile(tmp_path: Path) -> None:
    path = tmp_path / "b"
    asked = replace(TARGET, pin=("*=cloud",), cloud_budget="")
    _, made = compile_program(camera_program(tmp_path), asked, path, backend="tensorrt")
    assert sum(spec.dtype == "uint8" for spec in made.plan.tensors) >= 2
    command = [sys.executable, "-m", "vlacut", "check", str(path), "--no-build", "--json"]
    assert json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["passed"]
    body = "main (uint8[4] x) => (uint8[4] y) { [twice] y = Add(x, x) }"
    program = onnx_program(write(tmp_path / "m.onnx", body))
    with pytest.raises(BackendError, match=r"tensorrt cannot run .* on a100: Add twice reads x as"):
        compile_program(program, asked, tmp_path / "c", backend="tensorrt")
    assert not (tmp_path / "c").exists()
