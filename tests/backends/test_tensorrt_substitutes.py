"""What TensorRT lacks on integers and booleans, replaced exactly; operator sets lowered exactly."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from vlacut.errors import BackendError
from vlacut.hardware import load_device
from vlacut.ir.rewriting import name_uniquely
from vlacut_backends.tensorrt.build import TensorRTBuilder, derive
from vlacut_backends.tensorrt.early_casts import cast_early
from vlacut_backends.tensorrt.lowering import lower_opset
from vlacut_backends.tensorrt.substitutes import substitute

NUMBERS = np.random.default_rng(0)


def model_of(body: str, opset: int = 20) -> ir.Model:
    text = f'<ir_version: 10, opset_import: ["" : {opset}]> {body}'
    proto = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text), strict_mode=True)
    model = ir.from_proto(proto)
    name_uniquely(model, "text")
    return model


def evaluate(model: ir.Model, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return list(ReferenceEvaluator(proto).run(None, inputs))


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_running_sum_of_integers(exclusive: int, reverse: int, axis: int) -> None:
    model = model_of(
        f"""main (int64[3,5,4] x) => (int64[3,5,4] y) <int64 axis = {{{axis}}}> {{
            y = CumSum <exclusive = {exclusive}, reverse = {reverse}> (x, axis)
        }}"""
    )
    x = NUMBERS.integers(-(2**40), 2**40, (3, 5, 4))
    (expected,) = evaluate(model, {"x": x})
    substitute(model)
    assert "CumSum" not in [node.op_type for node in model.graph]
    (found,) = evaluate(model, {"x": x})
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("bounds", ["low, high", "low", ", high"])
def test_clipped_integers(bounds: str) -> None:
    model = model_of(
        f"""main (int64[9] x) => (int64[9] y) <int64 low = {{-2}}, int64 high = {{3}}> {{
            y = Clip(x, {bounds})
        }}"""
    )
    x = np.arange(-4, 5)
    (expected,) = evaluate(model, {"x": x})
    substitute(model)
    assert "Clip" not in [node.op_type for node in model.graph]
    np.testing.assert_array_equal(evaluate(model, {"x": x})[0], expected)


def test_booleans_are_padded_as_numbers() -> None:
    model = model_of(
        """main (bool[4] x) => (bool[7] y) <int64[2] pads = {1, 2}, bool fill = {1}> {
            y = Pad(x, pads, fill)
        }"""
    )
    x = np.array([True, False, False, True])
    substitute(model)
    (pad,) = (node for node in model.graph if node.op_type == "Pad")
    assert pad.inputs[0].dtype == ir.DataType.INT32
    assert evaluate(model, {"x": x})[0].tolist() == [True, *x, True, True]


def test_what_is_fine_stays() -> None:
    model = model_of("main (float[4] x) => (float[4] y) <int64 a = {0}> { y = CumSum(x, a) }")
    substitute(model)
    assert [node.op_type for node in model.graph] == ["CumSum"]


RMS = """main (float[2,8] x) => (float[2,8] y) <float[8] scale = {1, 2, 3, 4, 5, 6, 7, 8}> {
    y = RMSNormalization <axis = -1, epsilon = 0.001> (x, scale)
}"""
ATTENTION = """main (float[1,2,5,4] q, float[1,2,5,4] k, float[1,2,5,4] v) => (float[1,2,5,4] y) {
    y = Attention <is_causal = 1> (q, k, v)
}"""
ROTARY = """main (float[1,2,5,4] x, float[9,2] c, float[9,2] s, int64[1,5] p)
=> (float[1,2,5,4] y) {
    y = RotaryEmbedding(x, c, s, p)
}"""
SWISH = "main (float[2,8] x) => (float[2,8] y) { y = Swish <alpha = 1.5> (x) }"


@pytest.mark.parametrize(("text", "opset"), [(RMS, 23), (ATTENTION, 23), (ROTARY, 23), (SWISH, 24)])
def test_newer_operators_become_older_ones(text: str, opset: int) -> None:
    model = model_of(text, opset)
    inputs = {
        str(value.name): NUMBERS.standard_normal([int(str(dim)) for dim in value.shape]).astype(
            np.float32
        )
        if value.dtype == ir.DataType.FLOAT
        else np.array([[4, 0, 1, 8, 2]])
        for value in model.graph.inputs
    }
    (expected,) = evaluate(model, inputs)
    lower_opset(model, 20, "test")
    assert model.graph.opset_imports == {"": 20}
    np.testing.assert_allclose(evaluate(model, inputs)[0], expected, rtol=1e-5, atol=1e-6)


def test_types_that_came_later_are_cast_around() -> None:
    body = """main (bfloat16[1,1,4,4] x, bfloat16[1,1,2,2] w) => (bfloat16[1,1,3,3] y) {
        y = Conv(x, w)
    }"""
    model = model_of(body, 22)
    lower_opset(model, 20, "test")
    assert [node.op_type for node in model.graph] == ["Cast", "Cast", "Conv", "Cast"]
    assert [value.name for value in model.graph.outputs] == ["y"]
    assert model.graph.outputs[0].dtype == ir.DataType.BFLOAT16
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def test_what_has_no_older_form_is_named() -> None:
    scatter = """main (float[1,1,8,4] past, float[1,1,1,4] update, int64[1] at)
        => (float[1,1,8,4] y) { y = TensorScatter(past, update, at) }"""
    with pytest.raises(BackendError, match=r"TensorScatter .* lower opset"):
        lower_opset(model_of(scatter, 24), 20, "parts/x.onnx")
    group = """main (float[1,4,8] x) => (float[1,4,8] y)
        <float[4] s = {1, 2, 3, 4}, float[4] b = {0, 0, 0, 0}> {
        y = GroupNormalization <num_groups = 2> (x, s, b)
    }"""
    with pytest.raises(BackendError, match="GroupNormalization"):
        lower_opset(model_of(group, 21), 20, "parts/x.onnx")


CAMERAS = """main (uint8[2,8,6,3] a, uint8[8,6,4] b, uint8[1,8,6,3] c) => (float[3,3,7,6] y)
    <int64[1] zero = {0}, int64[1] three = {3}, int64[1] last = {2}, int64[1] one = {1},
     int64[1] eight = {8}, int64[1] high = {1}, uint8[1,1,1,3] mean = {104, 117, 123}> {
    rgb = Slice(b, zero, three, last)
    pixels = Unsqueeze(rgb, zero)
    all = Concat <axis = 0> (a, pixels)
    white = Max(all, mean)
    planes = Transpose <perm = [0, 3, 1, 2]> (white)
    low = Slice(planes, one, eight, last)
    y = Cast <to = 1> (low)
}"""


def bytes_for(model: ir.Model) -> dict[str, np.ndarray]:
    return {
        str(value.name): NUMBERS.integers(0, 256, value.shape.numpy(), np.uint8)
        for value in model.graph.inputs
        if value.shape is not None
    }


def test_casts_of_pictures_move_before_what_moves_their_bytes() -> None:
    model = model_of(CAMERAS)
    fed = bytes_for(model)
    (expected,) = evaluate(model, fed)
    builder, recipe = TensorRTBuilder(), derive(load_device("jetson-agx-orin")).to_texts()
    assert [found.rule for found in builder.findings(model, recipe)] == ["operator-type"] * 6
    builder.prepare(model, "part", recipe)
    assert list(builder.findings(model, recipe)) == []
    casts = [node for node in model.graph if node.op_type == "Cast"]
    assert [cast.inputs[0].is_graph_input() for cast in casts if cast.inputs[0]] == [True] * 2
    (found,) = evaluate(model, fed)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("body", "made", "kinds"),
    [
        ("t = Transpose(x) y = Cast <to = 10> (t)", "float16", ["FLOAT16"]),
        ("t = Transpose(x) y = Cast <to = 16> (t)", "bfloat16", ["FLOAT", "BFLOAT16"]),
        ("t = Transpose(x) y = Cast <to = 7> (t)", "int64", ["FLOAT", "INT64"]),
        ("t = Transpose(x) y = Cast <to = 9> (t)", "bool", ["FLOAT", "BOOL"]),
        ("y = Cast <to = 6> (x)", "int32", ["FLOAT", "INT32"]),
        ("y = Transpose(x)", "uint8", ["FLOAT", "UINT8"]),
        ("a, b = Split(x) y = Concat <axis = 0> (b, a)", "uint8", ["FLOAT", "UINT8"]),
        ("y = Equal(x, x)", "bool", ["FLOAT"]),
        (
            "t = Cast <to = 2> (f) u = Transpose(t) y = Cast <to = 1> (u)",
            "float",
            ["UINT8", "FLOAT"],
        ),
    ],
)
def test_bytes_are_cast_to_floats_alone(body: str, made: str, kinds: list[str]) -> None:
    """TensorRT casts them to float32 and float16, whatever becomes of them then."""
    model = model_of(f"main (uint8[4,4] x, float[4,4] f) => ({made}[4,4] y) {{ {body} }}", 17)
    fed = {
        "x": NUMBERS.integers(0, 256, (4, 4), np.uint8),
        "f": NUMBERS.uniform(0, 255, (4, 4)).astype(np.float32),
    }
    (expected,) = evaluate(model, fed)
    cast_early(model)
    casts = [node.outputs[0].dtype for node in model.graph if node.op_type == "Cast"]
    assert [dtype.name for dtype in casts if dtype] == kinds
    (found,) = evaluate(model, fed)
    np.testing.assert_array_equal(found, expected)


def test_what_computes_with_bytes_is_named() -> None:
    model = model_of("main (uint8[4] x) => (uint8[4] y) { [sum] y = Add(x, x) }", 14)
    builder, recipe = TensorRTBuilder(), derive(load_device("a100")).to_texts()
    builder.prepare(model, "part", recipe)
    (finding,) = builder.findings(model, recipe)
    assert str(finding).startswith("Add sum reads x as uint8; TensorRT 10.3 takes")
