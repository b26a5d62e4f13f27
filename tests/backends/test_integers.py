"""Products of 8 bits on ONNX Runtime: whole numbers, and the numbers of the graph as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator
from support.onnx_text import write

from vlacut.frontends.load import load_program
from vlacut.ir.pipeline import parse_pipeline
from vlacut.tensor.numerics import relative_difference
from vlacut_backends.onnxruntime.build import OnnxRuntimeBuilder
from vlacut_backends.onnxruntime.execute import OnnxRuntimeEngine
from vlacut_backends.onnxruntime.opening import open_session

NUMBERS = np.random.default_rng(0)
WEIGHTS = {
    "a": NUMBERS.normal(size=(96, 64)).astype(np.float32),
    "b": NUMBERS.normal(size=(96, 64)).astype(np.float32),
    "turned": NUMBERS.normal(size=(80, 64)).astype(np.float32),
    "bias": NUMBERS.normal(size=80).astype(np.float32),
}
ROWS = NUMBERS.normal(size=(5, 96)).astype(np.float32)
TWO = """main (float[5,96] x) => (float[5,80] y) {
    l = MatMul(x, a)  r = MatMul(x, b)  h = Mul(l, r)
    y = Gemm <transB = 1> (h, turned, bias) }"""
ALONE = """main (float[5,64] x) => (float[5,80] y) {
    w = Transpose <perm = [1, 0]> (turned)  y = MatMul(x, w) }"""


def quantised(folder: Path, body: str) -> ir.Model:
    read = {
        name: value for name, value in WEIGHTS.items() if f" {name}" in body or name + ")" in body
    }
    program = load_program(str(write(folder / "model.onnx", body, read)))
    parse_pipeline("quantise{weights=int8 smallest=1024}").run(program)
    return program.phases[0].model


def by_reference(model: ir.Model, **inputs: np.ndarray) -> np.ndarray:
    (made,) = ReferenceEvaluator(ir.to_proto(model)).run(None, inputs)
    return np.asarray(made)


def run(model: ir.Model, **inputs: np.ndarray) -> np.ndarray:
    recipe = OnnxRuntimeBuilder().recipe()
    OnnxRuntimeBuilder().prepare(model, "model", recipe)
    session = open_session(ir.to_proto(model).SerializeToString(), "model", recipe)
    return OnnxRuntimeEngine(session, "model").run(inputs)["y"]


@pytest.mark.parametrize("body", [TWO, ALONE])
def test_it_is_the_product_of_the_codes(tmp_path: Path, body: str) -> None:
    model = quantised(tmp_path, body)
    inputs = {"x": ROWS if body is TWO else ROWS[:, :64]}
    expected = by_reference(model, **inputs)
    np.testing.assert_allclose(
        run(model, **inputs), expected, rtol=0, atol=2e-6 * abs(expected).max()
    )
    kinds = [node.op_type for node in model.graph]
    assert "MatMul" not in kinds
    assert "Gemm" not in kinds
    assert "DequantizeLinear" not in kinds


def test_an_activation_is_rounded_once_for_all_that_read_it(tmp_path: Path) -> None:
    model = quantised(tmp_path, TWO)
    run(model, x=ROWS)
    kinds = [node.op_type for node in model.graph]
    assert kinds.count("QuantizeLinear") == 2
    assert kinds.count("MatMulInteger") == 3
    stored = {
        str(v.name): v.dtype for v in model.graph.initializers.values() if len(v.shape or ()) == 2
    }
    assert set(stored.values()) == {ir.DataType.UINT8}
    assert len(stored) == 3


def test_rows_are_the_same_bits_however_many_there_are(tmp_path: Path) -> None:
    model = quantised(tmp_path, ALONE)
    made = run(model, x=ROWS[:, :64])
    for row in range(5):
        moved = np.roll(ROWS[:, :64], row, axis=0)
        assert run(quantised(tmp_path, ALONE), x=moved)[row].tobytes() == made[0].tobytes()


def test_codes_that_come_over_the_link_are_moved(tmp_path: Path) -> None:
    model = quantised(tmp_path, ALONE)
    (codes,) = (node.outputs[0] for node in model.graph if node.op_type == "QuantizeLinear")
    cut = ir.convenience.extract(model.graph, inputs=[codes], outputs=[model.graph.outputs[0]])
    part = ir.Model(cut, ir_version=model.ir_version)
    given = {str(codes.name): NUMBERS.integers(-128, 128, (5, 64), np.int8)}
    expected = by_reference(part, **given)
    made = run(part, **given)
    assert "MatMulInteger" in [node.op_type for node in part.graph]
    assert relative_difference({"y": made}, {"y": expected}) < 2e-6


INSIDE = """main (float[5,96] x, bool flag) => (float[5,64] y) {
    w = DequantizeLinear <axis = 1> (codes, scales)
    y = If (flag) <
        then_branch = one () => (float[5,64] t) {
            q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s)  t = MatMul(d, w) },
        else_branch = other () => (float[5,64] e) {
            r = QuantizeLinear(x, s, z)  f = DequantizeLinear(r, s)  g = MatMul(f, w)  e = Neg(g) }
    > }"""


def test_products_inside_of_operators_read_codes(tmp_path: Path) -> None:
    """Nothing makes floats of a weight that only branches multiply with."""
    weights = {
        "codes": NUMBERS.integers(-127, 128, (96, 64), np.int8),
        "scales": NUMBERS.uniform(0.01, 0.02, 64).astype(np.float32),
        "s": np.array(0.03, np.float32),
        "z": np.array(0, np.int8),
    }
    for flag in (True, False):
        model = load_program(str(write(tmp_path / "if.onnx", INSIDE, weights))).phases[0].model
        inputs = {"x": ROWS, "flag": np.array(flag)}
        expected = by_reference(model, **inputs)
        assert relative_difference({"y": run(model, **inputs)}, {"y": expected}) < 2e-6
        kinds = [node.op_type for node in model.graph.all_nodes()]
        assert kinds.count("MatMulInteger") == 2
        assert not {"DequantizeLinear", "MatMul"} & {*kinds}


@pytest.mark.parametrize("zero", [5, None])
def test_another_zero_of_a_rounding_counts(tmp_path: Path, zero: int | None) -> None:
    """A file of somebody else's may round around another zero than it reads the codes by."""
    model = quantised(tmp_path, ALONE)
    (rounds,) = (node for node in model.graph if node.op_type == "QuantizeLinear")
    if zero is not None:
        held = ir.Value(name="zero", const_value=ir.tensor(np.array(zero, np.int8)))
        model.graph.register_initializer(held)
        rounds.resize_inputs(3)
        rounds.replace_input_with(2, held)
    expected = by_reference(model, x=ROWS[:, :64])
    made = run(model, x=ROWS[:, :64])
    assert relative_difference({"y": made}, {"y": expected}) < 2e-6


def test_what_has_no_content_stays_as_it_is(tmp_path: Path) -> None:
    model = quantised(tmp_path, ALONE)
    for value in model.graph.initializers.values():
        value.const_value = None
    OnnxRuntimeBuilder().prepare(model, "model", {})
    assert "MatMul" in [node.op_type for node in model.graph]
