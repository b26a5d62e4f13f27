"""What weights alone make: stored where it is small, with the bits of the engine that makes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from support.exported import program as as_program

from vlacut.ir.annotation import COST, SECONDS
from vlacut.ir.folding import MOST_ELEMENTS
from vlacut.ir.offline import offline
from vlacut.split.emission import save
from vlacut.split.weights import WeightStore
from vlacut_backends.onnxruntime.build import OnnxRuntimeBuilder
from vlacut_backends.onnxruntime.execute import OnnxRuntimeExecutor
from vlacut_passes.annotate_cost import AnnotateCost

LARGE = MOST_ELEMENTS + 64
ROTARY = """
main (float[1, 6, 8] x) => (float[1, 6, 8] y)
< float[4] inv_freq = {1.0, 0.1, 0.01, 0.001}, float[3, 1] at = {0.0, 1.0, 2.0},
  int64[6] rows = {2, 0, 1, 1, 0, 2} >
{
    angles = Mul (at, inv_freq)
    both = Concat <axis = -1> (angles, angles)
    picked = Gather (both, rows)
    cosine = Cos (picked)
    sine = Sin (picked)
    one = Mul (x, cosine)
    y = Add (one, sine)
}
"""
GROWN = f"""
main (float[1, {LARGE}] x) => (float[1, {LARGE}] y, float[1, {LARGE}] z)
< float[1, 1] w = {{2.0}}, int64[2] size = {{1, {LARGE}}} >
{{
    root = Sqrt (w)
    wide = Expand (root, size)
    y = Add (x, wide)
    z = Mul (x, wide)
}}
"""
QUANTISED = """
main (float[1, 4] x) => (float[1, 4] y)
< int8[4, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8}, float scale = {0.5} >
{
    unpacked = DequantizeLinear (w, scale)
    turned = Transpose <perm = [1, 0]> (unpacked)
    y = MatMul (x, turned)
}
"""
NOISY = """
main (float[3] x) => (float[3] y)
{
    noise = RandomNormal <shape = [3]> ()
    louder = Add (noise, noise)
    y = Add (x, louder)
}
"""
NAMED = """
main (float[2] x) => (float[2] y, float[2] root)
< float[2] w = {2.0, 3.0} >
{
    root = Sqrt (w)
    y = Add (x, root)
}
"""


def model(text: str) -> ir.Model:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> {text}')
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto, data_prop=True))


def prepared(text: str) -> ir.Model:
    made, builder = model(text), OnnxRuntimeBuilder()
    builder.prepare(made, "part", builder.recipe())
    return made


def kinds(made: ir.Model) -> list[str]:
    return [node.op_type for node in made.graph]


def outputs(made: ir.Model, folder: Path) -> dict[str, bytes]:
    """What an engine makes of numbers drawn at random, and its file."""
    folder.mkdir()
    with WeightStore(folder) as store:
        store.externalise(made)
    save(made, folder / "part.onnx")
    (given,) = made.graph.inputs
    shape = given.shape.numpy() if given.shape is not None else ()
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    recipe = {**OnnxRuntimeBuilder().recipe(), "threads": "1"}
    found = OnnxRuntimeExecutor().load(folder / "part.onnx", folder, recipe).run({"x": x})
    return {name: array.tobytes() for name, array in found.items()}


def test_what_is_small_is_stored_with_the_bits_that_the_engine_makes(tmp_path: Path) -> None:
    folded = prepared(ROTARY)
    assert kinds(folded) == ["Mul", "Add"]
    assert outputs(folded, tmp_path / "folded") == outputs(model(ROTARY), tmp_path / "whole")


def test_folding_writes_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("one", "other"):
        outputs(prepared(ROTARY), tmp_path / name)
    one, other = ((tmp_path / name / "part.onnx").read_bytes() for name in ("one", "other"))
    assert one == other


def test_an_output_of_weights_alone_keeps_its_name(tmp_path: Path) -> None:
    folded = prepared(NAMED)
    assert sorted(kinds(folded)) == ["Add", "Identity"]
    assert outputs(folded, tmp_path / "folded") == outputs(model(NAMED), tmp_path / "whole")
    assert kinds(prepared(NAMED.replace("Sqrt", "Identity"))) == ["Identity", "Add"]


def test_what_outgrows_its_weights_runs_every_step() -> None:
    root, wide, *_ = (made := model(GROWN)).graph
    found = offline(made.graph)
    assert (found.once, found.each_step) == ({root}, {wide})
    assert list(found.stored) == [root.outputs[0]]
    assert kinds(prepared(GROWN)) == ["Expand", "Add", "Mul"]


def test_its_first_reader_pays_for_it_unless_the_graph_is_compiled_as_a_whole() -> None:
    root, wide, add, mul = (made := model(GROWN)).graph
    AnnotateCost(edge="jetson-agx-orin", cloud="a100+tensorrt").run(as_program(made))
    assert (COST.get(root).kernels, COST.get(wide).kernels) == (0, 1)
    assert SECONDS.get(wide).edge == SECONDS.get(wide).cloud == 0
    assert SECONDS.get(add).edge > SECONDS.get(mul).edge > 0
    assert SECONDS.get(add).cloud + SECONDS.get(mul).cloud < SECONDS.get(mul).edge
    compiled = model(GROWN)
    AnnotateCost(edge="a100+tensorrt", cloud="a100").run(as_program(compiled))
    *_, one, other = compiled.graph
    assert SECONDS.get(one).edge + SECONDS.get(other).edge == (
        SECONDS.get(add).cloud + SECONDS.get(mul).cloud
    )
    assert SECONDS.get(one).cloud > SECONDS.get(other).cloud


def test_what_is_small_on_purpose_is_not_unpacked() -> None:
    assert kinds(prepared(QUANTISED)) == ["DequantizeLinear", "Transpose", "MatMul"]
    gone = {"int8[4, 4]": "float[4, 4]", "DequantizeLinear (w, scale)": "Mul (w, scale)"}
    plain = QUANTISED
    for old, new in gone.items():
        plain = plain.replace(old, new)
    assert kinds(prepared(plain)) == ["MatMul"]


def test_random_numbers_are_drawn_at_every_step() -> None:
    made = model(NOISY)
    assert offline(made.graph).once == set()
    assert kinds(prepared(NOISY)) == ["RandomNormal", "Add", "Add"]
    AnnotateCost().run(as_program(made))
    noise, louder, _ = made.graph
    assert COST.get(noise).kernels == COST.get(louder).kernels == 1
