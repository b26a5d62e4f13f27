"""Products of weights in 4 bits on ONNX Runtime: one operator, and the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator
from support.exported import llama, program_of
from support.onnx_text import write

import vlacut
from vlacut.frontends.load import load_program
from vlacut.ir.annotation import EXAMPLE
from vlacut.ir.fingerprint import fingerprint
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Program, copied
from vlacut.split.parts import whole
from vlacut_backends.onnxruntime.build import OnnxRuntimeBuilder
from vlacut_backends.onnxruntime.execute import OnnxRuntimeEngine
from vlacut_backends.onnxruntime.opening import open_session

ROWS = np.random.default_rng(1).normal(size=(3, 96)).astype(np.float32)


@pytest.fixture
def products(tmp_path: Path) -> Program:
    """X A B with A and B in 4 bits, in groups of 32 and of 16."""
    numbers = np.random.default_rng(0)
    weights = {
        "a": numbers.normal(size=(96, 48)).astype(np.float32),
        "b": numbers.normal(size=(48, 64)).astype(np.float32),
    }
    body = "main (float[3,96] x) => (float[3,64] y) { h = MatMul(x, a) y = MatMul(h, b) }"
    program = load_program(str(write(tmp_path / "two.onnx", body, weights)))
    parse_pipeline("quantise{weights=int4 smallest=1024 method=rtn}").run(program)
    return program


def prepared(model: ir.Model, activations: str) -> ir.Model:
    OnnxRuntimeBuilder().prepare(model, "two", {"activations": activations})
    return model


def run(model: ir.Model) -> np.ndarray:
    data = ir.to_proto(model).SerializeToString()
    recipe = OnnxRuntimeBuilder().recipe()
    engine = OnnxRuntimeEngine(open_session(data, "two", recipe), "two")
    return engine.run({"x": ROWS})["y"]


def test_rows_of_an_embedding_are_read_as_codes(tmp_path: Path) -> None:
    """Its product, tied to it by a transposition, reads codes of its own, of the same numbers."""
    weights = {"table": np.random.default_rng(0).normal(size=(48, 64)).astype(np.float32)}
    body = """main (int64[1,5] ids) => (float[1,5,48] y) {
        h = Gather(table, ids)
        turned = Transpose<perm = [1, 0]>(table)
        y = MatMul(h, turned)
    }"""
    program = load_program(str(write(tmp_path / "tied.onnx", body, weights)))
    text = "quantise{weights=int4 smallest=1024 method=rtn embeddings=true}"
    parse_pipeline(text).run(program)
    model = program.phases[0].model
    assert not any(name == "table" for name in model.graph.initializers)
    codes = {name for name in model.graph.initializers if not name.endswith(".scale")}
    assert codes == {"table.int4.g32.rows", "table.int4.g32.0"}
    ids = np.array([[0, 3, 47, 3, -1]])
    (expected,) = ReferenceEvaluator(ir.to_proto(model)).run(None, {"ids": ids})
    made = prepared(model, "float")
    assert [node.op_type for node in made.graph] == ["GatherBlockQuantized", "MatMulNBits"]
    session = open_session(
        ir.to_proto(made).SerializeToString(), "tied", OnnxRuntimeBuilder().recipe()
    )
    assert np.allclose(session.run(None, {"ids": ids})[0], expected, atol=1e-5)


def test_a_product_whose_activations_stay_exact_says_so_to_its_operator(tmp_path: Path) -> None:
    """The property goes with it into the part, and makes another part of it."""
    body = "main (float[3,96] x) => (float[3,48] y) { y = MatMul(x, a) }"
    weights = {"a": np.random.default_rng(0).normal(size=(96, 48)).astype(np.float32)}
    program, digests = load_program(str(write(tmp_path / "one.onnx", body, weights))), set()
    for asked, level in (("", 4), (" activations=float", 0)):
        other = copied(program)
        text = f"quantise{{weights=int4 smallest=1024 method=rtn{asked}}}"
        parse_pipeline(text).run(other)
        model = whole(other.phases[0], ["x"])
        digests.add(fingerprint(model.graph))
        levels = [
            node.attributes.get_int("accuracy_level") for node in prepared(model, "int8").graph
        ]
        assert levels == [level]
    assert len(digests) == 2


@pytest.mark.parametrize(("activations", "bound"), [("float", 1e-5), ("int8", 0.03)])
def test_it_is_the_product_of_the_codes(products: Program, activations: str, bound: float) -> None:
    model = products.phases[0].model
    (expected,) = ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": ROWS})
    made = run(prepared(model, activations))
    difference = np.abs(made - expected).max() / np.abs(expected).max()
    assert difference <= bound
    assert activations == "float" or difference > 1e-5


def test_no_weight_of_floats_is_made(products: Program) -> None:
    model = prepared(products.phases[0].model, "int8")
    assert [node.op_type for node in model.graph] == ["MatMulNBits"] * 2
    packed = [v for v in model.graph.initializers.values() if v.dtype == ir.DataType.UINT8]
    assert [value.shape.numpy() for value in packed] == [(48, 3, 16), (64, 3, 8)]


def test_codes_without_content_stay_as_they_are(products: Program) -> None:
    model = products.phases[0].model
    for value in model.graph.initializers.values():
        value.const_value = None
    assert [node.op_type for node in prepared(model, "int8").graph] == [
        *("DequantizeLinear", "MatMul") * 2
    ]


def test_a_bundle_in_4_bits_is_cut_and_verified(tmp_path: Path) -> None:
    program = program_of(*llama(2))
    EXAMPLE.put(program, {program.inputs[0].name: np.arange(16)[None] * 5})
    vlacut.compile(
        program,
        out=tmp_path / "bundle",
        edge="jetson-agx-orin",
        cloud="a100",
        link="10MB/s,20ms",
        quantise="int4",
        pool="block",
    )
    assert all(result.passed for result in vlacut.verify(tmp_path / "bundle"))
    sizes = [path.stat().st_size for path in (tmp_path / "bundle" / "weights").iterdir()]
    # Beside the embedding, what is largest in floats is too small for 4 bits: 64 x 32.
    assert sorted(sizes)[-2:] == [64 * 32 * 4, 100 * 64 * 4]
