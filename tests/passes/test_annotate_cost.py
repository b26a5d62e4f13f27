"""annotate-cost against formulas written out here, and against torch's own counter."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from support import exported
from support.one_operator import BFLOAT16, FLOAT, HALF, INT8, INT64, Shapes, one_operator, tensor
from support.onnx_text import write
from support.slow import quick
from torch.utils.flop_counter import FlopCounterMode

from vlacut.errors import PassError
from vlacut.frontends.load import load_program
from vlacut.hardware import load_device
from vlacut.ir.annotation import COST, KERNEL, SECONDS, UNPRICED, Seconds
from vlacut.ir.graphs import operators
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Program
from vlacut.pricing.roofline import Cost
from vlacut_passes.annotate_cost import AnnotateCost
from vlacut_passes.cost import matrix, movement, pointwise
from vlacut_passes.cost.pointwise import SPECIAL


def cost_of(program: Program) -> Cost:
    AnnotateCost().run(program)
    return COST.get(next(iter(program.phases[0].model.graph)))


def plain(kind: str, shapes: Shapes, output: tuple[int, ...], **attributes: object) -> Cost:
    inputs = [tensor(f"x{at}", shape) for at, shape in enumerate(shapes)]
    return cost_of(one_operator(kind, inputs, output, **attributes))


@pytest.mark.parametrize(
    ("kind", "shapes", "output", "attributes", "flops"),
    [
        ("MatMul", [(2, 3, 5), (5, 7)], (2, 3, 7), {}, 2 * 2 * 3 * 5 * 7),
        ("MatMul", [(4, 1, 3, 5), (2, 5, 7)], (4, 2, 3, 7), {}, 2 * 4 * 2 * 3 * 5 * 7),
        ("Gemm", [(5, 3), (7, 5)], (3, 7), {"transA": 1, "transB": 1}, 2 * 3 * 5 * 7),
        ("Conv", [(1, 6, 8, 8), (10, 3, 3, 3)], (1, 10, 8, 8), {"group": 2}, 2 * 640 * 3 * 9),
        ("ConvTranspose", [(1, 6, 4, 4), (6, 5, 2, 2)], (1, 5, 8, 8), {}, 2 * 6 * 16 * 5 * 4),
        (
            "Attention",
            [(2, 4, 3, 8), (2, 2, 9, 8), (2, 2, 9, 6)],
            (2, 4, 3, 6),
            {},
            2 * 2 * 4 * 27 * 14,
        ),
        (
            "Attention",
            [(2, 3, 32), (2, 9, 16), (2, 9, 12)],
            (2, 3, 24),
            {"q_num_heads": 4, "kv_num_heads": 2},
            2 * 2 * 4 * 27 * 14,
        ),
        ("Einsum", [(2, 3, 5), (2, 5, 7)], (2, 3, 7), {"equation": "bij,bjk->bik"}, 2 * 210),
        ("Einsum", [(2, 3, 5), (5, 7)], (2, 3, 7), {"equation": "...j,jk->...k"}, 2 * 210),
        ("Einsum", [(3,), (5,)], (3, 5), {"equation": "i,j->ij"}, 15),
        ("Einsum", [(3, 5)], (5,), {"equation": "ij->j"}, 15),
        ("Add", [(2, 3), (3,)], (2, 3), {}, 6),
        ("Sum", [(2, 3), (2, 3), (2, 3)], (2, 3), {}, 12),
        ("Gelu", [(2, 3)], (2, 3), {}, 6 * SPECIAL),
        ("ReduceMean", [(4, 5)], (4, 1), {}, 20),
        ("Softmax", [(4, 5)], (4, 5), {}, 20 * (4 + SPECIAL)),
        ("LayerNormalization", [(4, 5), (5,), (5,)], (4, 5), {}, 7 * 20),
        ("RMSNormalization", [(4, 5), (5,)], (4, 5), {}, 4 * 20),
        ("MaxPool", [(1, 2, 8, 8)], (1, 2, 4, 4), {"kernel_shape": [3, 3]}, 32 * 9),
        ("Resize", [(1, 2, 4, 4)], (1, 2, 8, 8), {"mode": "linear"}, 2 * 4 * 128),
        ("TopK", [(2, 100)], (2, 8), {}, 200 * (1 + 3)),
        ("Transpose", [(2, 3)], (3, 2), {}, 0),
    ],
)
def test_operations_by_formula(
    kind: str, shapes: Shapes, output: tuple[int, ...], attributes: dict[str, object], flops: int
) -> None:
    cost = plain(kind, shapes, output, **attributes)
    assert cost.flops == flops
    assert cost.kernels == 1
    assert cost.bytes_read == 4 * sum(_size(shape) for shape in shapes)
    assert cost.bytes_written == 4 * _size(output)


def _size(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrence_reads_its_matrix_every_step(kind: str, gates: int) -> None:
    steps, batch, inputs, hidden = 7, 2, 5, 3
    w = tensor("w", (2, gates * hidden, inputs))
    r = tensor("r", (2, gates * hidden, hidden))
    program = one_operator(
        kind,
        [tensor("x", (steps, batch, inputs)), w, r],
        (steps, 2, batch, hidden),
        [w, r],
        hidden_size=hidden,
        direction="bidirectional",
    )
    cost = cost_of(program)
    assert cost.flops == 2 * 2 * steps * batch * gates * hidden * (inputs + hidden)
    assert cost.weight_bytes == 4 * 2 * gates * hidden * (inputs + steps * hidden)
    assert cost.kernels == 2 * (1 + steps)


def test_an_embedding_reads_its_rows_alone() -> None:
    table = tensor("table", (32064, 4096), BFLOAT16)
    words = tensor("words", (1, 7), INT64)
    program = one_operator("Gather", [table, words], (1, 7, 4096), [table], BFLOAT16)
    assert cost_of(program) == Cost(0, 7 * 8, 7 * 4096 * 2, 7 * 4096 * 2, 1)


def test_a_slice_reads_what_it_keeps_and_a_view_is_free() -> None:
    assert plain("Slice", [(100, 8), (1,), (1,)], (2, 8)).bytes_read == 4 * (16 + 2)
    assert plain("Reshape", [(100, 8), (1,)], (800,)) == Cost()


def test_a_value_read_twice_moves_once() -> None:
    x = tensor("x", (10,))
    assert cost_of(one_operator("Mul", [x, x], (10,))).bytes_read == 40


def test_updating_a_cache_moves_the_update_alone() -> None:
    cache, update = tensor("cache", (1, 8, 300, 64), HALF), tensor("new", (1, 8, 1, 64), HALF)
    at = tensor("at", (1,), INT64)
    cost = cost_of(one_operator("TensorScatter", [cache, update, at], (1, 8, 300, 64), (), HALF))
    assert (cost.bytes_read, cost.bytes_written) == (2 * 512 + 8, 2 * 512)


def test_matrix_operators_run_at_the_rate_of_their_type() -> None:
    """Large square products: their times are as the peak rates are."""
    size, device = 16384, load_device("a100")
    seconds = {}
    for dtype, name in ((FLOAT, "float32"), (BFLOAT16, "bfloat16"), (INT8, "int8")):
        kind = "MatMulInteger" if dtype is INT8 else "MatMul"
        inputs = [tensor("a", (size, size), dtype), tensor("b", (size, size), dtype)]
        program = one_operator(kind, inputs, (size, size), dtype=dtype)
        AnnotateCost(edge="jetson-agx-orin", cloud="a100").run(program)
        found = SECONDS.get(next(iter(program.phases[0].model.graph)))
        assert found.edge > found.cloud
        seconds[name] = found.cloud
    for name in ("bfloat16", "int8"):
        ratio = device.peak[name] / device.peak["float32"]
        assert seconds["float32"] / seconds[name] == pytest.approx(ratio, rel=0.02)


def test_an_operator_without_a_rule_is_named_and_priced_by_its_bytes() -> None:
    program = one_operator("Frobnicate", [tensor("x", (10,))], (5,), domain="com.example")
    assert cost_of(program) == Cost(0, 40, 20, 0, 1)
    assert UNPRICED.get(program) == ("com.example::Frobnicate",)
    assert SECONDS.get(next(iter(program.phases[0].model.graph))).edge > 0
    known = one_operator("Relu", [tensor("x", (10,))], (10,))
    cost_of(known)
    assert UNPRICED.get(known) == ()


def test_what_depends_on_weights_alone_is_free_and_read_as_a_weight() -> None:
    x, w = tensor("x", (1, 8)), tensor("w", (4, 8))
    transpose = ir.node("Transpose", [w], {"perm": [1, 0]}, name="t")
    folded = transpose.outputs[0]
    folded.name, folded.dtype, folded.shape = "wt", FLOAT, ir.Shape((8, 4))
    matmul = ir.node("MatMul", [x, folded], name="m")
    made = matmul.outputs[0]
    made.name, made.dtype, made.shape = "y", FLOAT, ir.Shape((1, 4))
    opset = {"": 23}
    graph = ir.Graph([x], [made], nodes=[transpose, matmul], initializers=[w], opset_imports=opset)
    AnnotateCost().run(exported.program(ir.Model(graph, ir_version=10)))
    assert COST.get(transpose) == Cost()
    assert SECONDS.get(transpose).edge == 0
    assert COST.get(matmul) == Cost(2 * 8 * 4, 32, 16, 128, 1)


def test_a_loop_costs_its_body_times_its_trips() -> None:
    state = tensor("state", (6,))
    step = ir.node("Tanh", [state], name="step")
    step.outputs[0].name, step.outputs[0].dtype, step.outputs[0].shape = "next", FLOAT, state.shape
    go_on = tensor("on", (), ir.DataType.BOOL)
    count = tensor("n", (), INT64)
    body = ir.Graph([count, go_on, state], [go_on, step.outputs[0]], nodes=[step], name="body")
    trips = tensor("trips", (), INT64)
    trips.const_value = ir.tensor(5, dtype=INT64)
    x = tensor("x", (6,))
    program = one_operator("Loop", [trips, None, x], (6,), [trips], body=body)
    assert cost_of(program) == Cost(5 * 6 * SPECIAL, 5 * 24, 5 * 24, 0, 5)


def test_a_branch_costs_the_dearer_of_its_bodies() -> None:
    x = tensor("x", (6,))

    def body(kind: str) -> ir.Graph:
        node = ir.node(kind, [x], name=kind)
        node.outputs[0].name, node.outputs[0].dtype, node.outputs[0].shape = kind, FLOAT, x.shape
        return ir.Graph([], [node.outputs[0]], nodes=[node], name=kind)

    condition = tensor("c", (), ir.DataType.BOOL)
    program = one_operator(
        "If", [condition], (6,), then_branch=body("Identity"), else_branch=body("Neg")
    )
    assert cost_of(program) == Cost(6, 24, 24, 0, 1)


def test_the_table_covers_what_ai_onnx_has() -> None:
    """All but texts, sequences, optionals, losses, shapes that depend on data, and oddities."""
    left = {item.name for item in onnx.defs.get_all_schemas() if item.domain == ""}
    left -= {*pointwise.RULES, *movement.RULES, *matrix.RULES, "If", "Loop", "Scan"}
    assert not [kind for kind in left if kind.startswith(("Reduce", "Conv", "Global", "Bitwise"))]
    assert len(left) < 35


@pytest.mark.parametrize(
    ("make", "opset"),
    quick([(exported.llama, 20), (exported.llama, 23), (exported.vit, 20)], (exported.vit, 20)),
)
def test_products_are_counted_as_torch_counts_them(make: exported.Make, opset: int) -> None:
    module, example = make()
    program = exported.program(exported.model_of(make, opset))
    AnnotateCost().run(program)
    nodes = operators(program.phases[0].model.graph)
    matrix = ("MatMul", "Gemm", "Conv", "Attention")
    found = sum(COST.get(node).flops for node in nodes if node.op_type in matrix)
    module.model.set_attn_implementation("eager")  # the counter sees no fused attention on a CPU
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(example)
    assert found == counter.get_total_flops() - _rotary(counter)
    assert UNPRICED.get(program) == ()


def _rotary(counter: FlopCounterMode) -> int:
    """Products that make the angles of a rotary embedding: the exporter folds them."""
    return sum(
        sum(by_kind.values())
        for module, by_kind in counter.get_flop_counts().items()
        if module.endswith("rotary_emb")
    )


def chain_of(count: int) -> Program:
    """Pointwise operators, one after the other."""
    nodes, value = [], tensor("x", (4, 4))
    first = value
    for at in range(count):
        node = ir.node("Relu", [value], name=f"n{at}")
        value = node.outputs[0]
        value.name, value.dtype, value.shape = f"v{at}", FLOAT, ir.Shape((4, 4))
        nodes.append(node)
    graph = ir.Graph([first], [value], nodes=nodes, opset_imports={"": 20})
    return exported.program(ir.Model(graph, ir_version=10))


def calls_of(program: Program) -> int:
    """Calls of functions that annotate-cost makes."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        AnnotateCost().run(program)
    finally:
        sys.setprofile(None)
    return calls


def test_work_grows_no_faster_than_operators() -> None:
    few, many = calls_of(chain_of(250)), calls_of(chain_of(2000))
    assert few > 250
    assert many < 8.1 * few


def test_an_operator_that_defies_its_schema_is_named() -> None:
    program = one_operator("Gather", [None, tensor("i", (2,), INT64)], (2, 2))
    with pytest.raises(PassError, match=r"phase main: Gather it lacks its input 0"):
        AnnotateCost().run(program)


def test_a_product_of_4_bits_reads_codes_and_scales(tmp_path: Path) -> None:
    body = "main (float[1,4096] x) => (float[1,4096] y) { y = MatMul(x, w) }"
    numbers = np.random.default_rng(0).normal(size=(4096, 4096)).astype(np.float32)
    file = str(write(tmp_path / "one.onnx", body, {"w": numbers}))
    exact, four = load_program(file), load_program(file)
    parse_pipeline("quantise{weights=int4 method=rtn group=128}").run(four)
    seconds = []
    for program in (exact, four):
        AnnotateCost().run(program)
        found = {node.op_type: node for node in program.phases[0].model.graph}
        seconds.append(SECONDS.get(found["MatMul"]))
    made = COST.get(found["DequantizeLinear"])
    assert (made, SECONDS.get(found["DequantizeLinear"])) == (Cost(), Seconds(0.0, 0.0))
    assert COST.get(found["MatMul"]).weight_bytes == 4096 * 4096 // 2 + 4096 * 32 * 4
    assert seconds[1].edge < 0.7 * seconds[0].edge  # then its arithmetic is what takes long
    # Read by anything else, the floats of the whole weight are there, and are read.
    graph = four.phases[0].model.graph
    restored = found["DequantizeLinear"].outputs[0]
    other = ir.node("Neg", [restored], name="other")
    other.outputs[0].shape, other.outputs[0].type = restored.shape, restored.type
    graph.insert_after(found["MatMul"], other)
    graph.outputs.append(other.outputs[0])
    AnnotateCost().run(four)
    assert COST.get(found["MatMul"]).weight_bytes == 4096 * 4096 * 4


@pytest.mark.parametrize("turned", [False, True])
def test_a_product_of_8_bits_reads_codes_at_their_rate(tmp_path: Path, turned: bool) -> None:
    product = "t = Transpose (w) y = MatMul(x, t)" if turned else "y = MatMul(x, w)"
    body = f"main (float[64,256] x) => (float[64,256] y) {{ {product} }}"
    numbers = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
    program = load_program(str(write(tmp_path / "one.onnx", body, {"w": numbers})))
    parse_pipeline("quantise{weights=int8 smallest=1024}").run(program)
    AnnotateCost().run(program)
    free = [node for node in program.phases[0].model.graph if COST.get(node) == Cost()]
    unpacking = ["DequantizeLinear", "DequantizeLinear", *(["Transpose"] if turned else [])]
    assert sorted(node.op_type for node in free) == unpacking
    (found,) = (node for node in program.phases[0].model.graph if node.op_type == "MatMul")
    cost = COST.get(found)
    assert (cost.weight_bytes, cost.bytes_read) == (256 * 256 + 256 * 4, 64 * 256 + 4)
    assert KERNEL.get(found).rate == "int8"
