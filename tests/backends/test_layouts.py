"""Large products on ONNX Runtime: the same numbers, and each weight is stored once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support.cutting import session
from support.onnx_text import write

from vlacut.frontends.load import load_program
from vlacut_backends.onnxruntime.build import OnnxRuntimeBuilder
from vlacut_backends.onnxruntime.opening import packs

WIDTH, WIDE = 256, 320
NUMBERS = np.random.default_rng(0)
WEIGHT = NUMBERS.normal(size=(WIDTH, WIDE)).astype(np.float32)
BIAS = NUMBERS.normal(size=WIDE).astype(np.float32)

BODIES = {
    "matmul": ("[1,{0},256] x", "MatMul(x, w)", WEIGHT),
    "matmul of a matrix": ("[{0},256] x", "MatMul(x, w)", WEIGHT),
    "gemm": ("[{0},256] x", "Gemm(x, w, b)", WEIGHT),
    "gemm as PyTorch has it": ("[{0},256] x", "Gemm<transB=1>(x, w, b)", WEIGHT.T.copy()),
    "gemm of another scale": ("[{0},256] x", "Gemm<alpha=0.5>(x, w, b)", WEIGHT),
}


def model_of(folder: Path, kind: str, rows: int) -> ir.Model:
    source, product, weight = BODIES[kind]
    read = source.format(rows)
    made = read.replace("256", str(WIDE)).replace(" x", " y")
    body = f"main (float{read}) => (float{made}) {{ y = {product} }}"
    path = write(folder / f"{rows}.onnx", body, {"w": weight, "b": BIAS})
    return loaded(path)


def loaded(path: Path) -> ir.Model:
    """The model of a file, with its weights."""
    model = load_program(str(path)).phases[0].model
    return ir.external_data.load_to_model(model)


def run(model: ir.Model, array: np.ndarray) -> np.ndarray:
    return session(model).run(None, {"x": array})[0]


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("rows", [1, 2, 16, 32, 33])
def test_the_numbers_stay(tmp_path: Path, kind: str, rows: int) -> None:
    model = model_of(tmp_path, kind, rows)
    shape = [int(str(size)) for size in model.graph.inputs[0].shape or ()]
    array = np.random.default_rng(rows).normal(size=shape).astype(np.float32)
    expected = run(model, array)
    OnnxRuntimeBuilder().prepare(model, kind, {})
    made = run(model, array)
    assert made.shape == expected.shape
    assert np.abs(made - expected).max() <= 1e-5 * np.abs(expected).max()
    kinds = Counter(node.op_type for node in model.graph)
    assert kinds["MatMul"] == 0
    (gemm,) = (node for node in model.graph if node.op_type == "Gemm")
    few = 1 < rows <= 32 and "scale" not in kind
    assert (gemm.inputs[0].name not in ("x", "y")) is (few or kind == "matmul")
    assert kinds["Transpose"] == few


@pytest.mark.parametrize("rows", [1, 16, 40])
def test_weights_that_are_packed_ahead_are_transposed_for_any_rows(
    tmp_path: Path, rows: int
) -> None:
    """The model says so itself, whoever loads it; on a GPU nothing is done for rows."""
    builder = OnnxRuntimeBuilder()
    many = builder.for_many_rows(builder.recipe())
    model = model_of(tmp_path, "matmul", rows)
    array = np.random.default_rng(rows).normal(size=(1, rows, WIDTH)).astype(np.float32)
    expected = run(model, array)
    builder.prepare(model, "p", many)
    assert packs(ir.serde.serialize_model(model).SerializeToString())
    (gemm,) = (node for node in model.graph if node.op_type == "Gemm")
    assert gemm.attributes["transB"].value == 1
    assert np.abs(run(model, array) - expected).max() <= 1e-5 * np.abs(expected).max()
    plain = model_of(tmp_path, "matmul", rows)
    builder.prepare(plain, "p", {**builder.recipe(), "provider": "cuda,cpu"})
    assert not packs(ir.serde.serialize_model(plain).SerializeToString())
    on_gpu = {"provider": "cuda,cpu"}
    assert builder.for_many_rows(on_gpu) == on_gpu


def test_a_weight_of_any_number_of_rows_is_stored_once(tmp_path: Path) -> None:
    """Also in a branch, and where rows of it are looked up as PyTorch ties them."""
    body = """main (float[8,256] x, float[1,256] z, int64[2] i, bool c)
        => (float[8,512] y, float[1,512] u, float[2,256] e, float[1,512] v) {
        t = Transpose<perm=[1,0]>(w)
        y = MatMul(x, t)
        u = MatMul(z, t)
        e = Gather(w, i)
        v = If(c) <
            then_branch = yes () => (float[1,512] a) { a = MatMul(z, t) },
            else_branch = no () => (float[1,512] d) { d = Identity(u) }
        >
    }"""
    weight = NUMBERS.normal(size=(512, 256)).astype(np.float32)
    model = loaded(write(tmp_path / "tied.onnx", body, {"w": weight}))
    given = {
        "x": NUMBERS.normal(size=(8, 256)).astype(np.float32),
        "z": NUMBERS.normal(size=(1, 256)).astype(np.float32),
        "i": np.array([3, 1]),
        "c": np.array(True),
    }
    expected = session(model).run(None, given)
    OnnxRuntimeBuilder().prepare(model, "tied", {})
    large = [one for one in model.graph.initializers.values() if len(one.shape or ()) == 2]
    assert [one.name for one in large] == ["w"]
    for one, other in zip(session(model).run(None, given), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_transposition_that_turns_nothing_is_none(tmp_path: Path) -> None:
    body = """main (float[8,256] x) => (float[8,256] y) {
        t = Transpose<perm=[0,1]>(w)
        y = MatMul(x, t)
    }"""
    weight = NUMBERS.normal(size=(256, 256)).astype(np.float32)
    model = loaded(write(tmp_path / "square.onnx", body, {"w": weight}))
    array = NUMBERS.normal(size=(8, 256)).astype(np.float32)
    expected = run(model, array)
    OnnxRuntimeBuilder().prepare(model, "square", {})
    np.testing.assert_allclose(run(model, array), expected, atol=1e-3)


def test_small_products_stay_as_they_are(tmp_path: Path) -> None:
    body = "main (float[8,64] x) => (float[8,64] y) { y = MatMul(x, w) }"
    weight = {"w": np.ones((64, 64), np.float32)}
    model = loaded(write(tmp_path / "small.onnx", body, weight))
    OnnxRuntimeBuilder().prepare(model, "small", {})
    assert [node.op_type for node in model.graph] == ["MatMul"]
