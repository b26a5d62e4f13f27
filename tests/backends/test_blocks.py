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


INSIDE = """main (int64[5] ids, bool flag) => (float[5,64] y) {
    w = DequantizeLinear <axis = 0, block_size = 32> (codes, scales)
    table = DequantizeLinear <axis = 1, block_size = 32> (words, sizes)
    y = If (flag) <
        then_branch = one () => (float[5,64] t) { h = Gather(table, ids)  t = MatMul(h, w) },
        else_branch = other () => (float[5,64] e) {
            v = DequantizeLinear <axis = 0, block_size = 32> (others, steps)
            k = Gather(table, ids)  g = MatMul(k, v)  e = Neg(g) }
    > }"""


@pytest.mark.parametrize(("activations", "bound"), [("float", 2e-6), ("int8", 0.02)])
@pytest.mark.parametrize("flag", [True, False])
def test_products_and_embeddings_inside_of_operators_read_codes(
    tmp_path: Path, flag: bool, activations: str, bound: float
) -> None:
    """Of weights of the graph around them, and of their own."""
    numbers = np.random.default_rng(0)
    shapes = {"codes": (96, 64), "others": (96, 64), "words": (48, 96)}
    blocks = {"scales": (3, 64), "steps": (3, 64), "sizes": (48, 3)}
    codes = {
        name: numbers.integers(-8, 8, shape).astype(ir.DataType.INT4.numpy())
        for name, shape in shapes.items()
    }
    scales = {
        name: numbers.uniform(0.01, 0.02, shape).astype(np.float32)
        for name, shape in blocks.items()
    }
    path = write(tmp_path / "if.onnx", INSIDE, {**codes, **scales}, opset=21)
    model = load_program(str(path)).phases[0].model
    inputs = {"ids": np.array([0, 3, 47, 3, 1]), "flag": np.array(flag)}
    (expected,) = ReferenceEvaluator(ir.to_proto(model)).run(None, inputs)
    prepared(model, activations)
    recipe = OnnxRuntimeBuilder().recipe()
    data = ir.to_proto(model).SerializeToString()
    made = OnnxRuntimeEngine(open_session(data, "if", recipe), "if").run(inputs)["y"]
    assert np.abs(made - expected).max() <= bound * np.abs(expected).max()
    kinds = [node.op_type for node in model.graph.all_nodes()]
    assert kinds.count("MatMulNBits") == kinds.count("GatherBlockQuantized") == 2
    assert not {"DequantizeLinear", "MatMul", "Gather"} & {*kinds}


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
