"""Kernel groups: which operators are one kernel, what that kernel moves, and who bears its time."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
import pytest
from support import exported

from vlacut.hardware import load_device
from vlacut.ir.annotation import COST, KERNEL, SECONDS
from vlacut.ir.graphs import value_spec
from vlacut.ir.program import Program
from vlacut.pricing.roofline import Cost, Kernel, sequence_seconds
from vlacut_passes.annotate_cost import AnnotateCost
from vlacut_passes.cost.groups import group_kernel, kernel_groups
from vlacut_passes.simplify import Simplify

FLOAT = ir.DataType.FLOAT


class Graph:
    """Writes down a graph operator by operator."""

    def __init__(self) -> None:
        self.nodes: list[ir.Node] = []
        self.weights: list[ir.Value] = []

    def value(self, *shape: int) -> ir.Value:
        name = f"v{len(self.nodes)}_{len(self.weights)}"
        return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(FLOAT))

    def weight(self, *shape: int) -> ir.Value:
        self.weights.append(self.value(*shape))
        return self.weights[-1]

    def run(self, kind: str, inputs: Sequence[ir.Value], *shape: int) -> ir.Value:
        node = ir.node(kind, inputs, name=f"{kind}{len(self.nodes)}")
        made = node.outputs[0]
        made.name, made.dtype, made.shape = f"m{len(self.nodes)}", FLOAT, ir.Shape(shape)
        self.nodes.append(node)
        return made

    def program(self, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value]) -> Program:
        graph = ir.Graph(
            inputs,
            outputs,
            nodes=self.nodes,
            initializers=self.weights,
            opset_imports={"": 23},
        )
        return exported.program(ir.Model(graph, ir_version=10))


def grouped(program: Program, fusion: str) -> list[tuple[str, Kernel]]:
    """Operators of every group, and its kernel."""
    AnnotateCost().run(program)
    found = {node: KERNEL.find(node) for node in program.phases[0].model.graph}
    kernels = {node: kernel for node, kernel in found.items() if kernel is not None}
    return [
        (" ".join(node.op_type for node in nodes), group_kernel(nodes, kernels, fusion))
        for nodes in kernel_groups(kernels, fusion)
    ]


def perceptron() -> Program:
    """X [8, 32] to gelu(X W + b) + R, with the product read by nobody else."""
    graph = Graph()
    x, residual = graph.value(8, 32), graph.value(8, 64)
    residual.name = "residual"
    y = graph.run("MatMul", [x, graph.weight(32, 64)], 8, 64)
    y = graph.run("Add", [y, graph.weight(64)], 8, 64)
    y = graph.run("Gelu", [y], 8, 64)
    y = graph.run("Add", [y, residual], 8, 64)
    return graph.program([x, residual], [y])


def test_an_epilogue_moves_its_operands_and_the_result_alone() -> None:
    ((names, kernel),) = grouped(perceptron(), "engine")
    assert names == "MatMul Add Gelu Add"
    read, written, weights = 4 * (8 * 32 + 8 * 64), 4 * 8 * 64, 4 * (32 * 64 + 64)
    cost = Cost(2 * 8 * 64 * 32, read, written, weights, 1)
    assert kernel == Kernel("gemm", cost, "float32", 8, 64, 32)


def test_a_library_adds_the_bias_and_no_more() -> None:
    assert [names for names, _ in grouped(perceptron(), "library")] == ["MatMul Add", "Gelu", "Add"]
    assert [names for names, _ in grouped(perceptron(), "none")] == ["MatMul", "Add", "Gelu", "Add"]


def test_what_is_read_outside_is_written_all_the_same() -> None:
    graph = Graph()
    x = graph.value(8, 32)
    product = graph.run("MatMul", [x, graph.weight(32, 64)], 8, 64)
    y = graph.run("Relu", [product], 8, 64)
    ((_, kernel),) = grouped(graph.program([x], [product, y]), "engine")
    assert kernel.cost.bytes_read == 4 * 8 * 32
    assert kernel.cost.bytes_written == 2 * 4 * 8 * 64


@pytest.mark.parametrize("fusion", ["library", "engine"])
def test_attention_is_one_kernel(fusion: str) -> None:
    graph = Graph()
    query, key, value = (graph.value(4, *size) for size in ((6, 16), (16, 10), (10, 8)))
    for name, item in zip("qkv", (query, key, value), strict=True):
        item.name = name
    scores = graph.run("MatMul", [query, key], 4, 6, 10)
    scores = graph.run("Add", [scores, graph.weight(6, 10)], 4, 6, 10)
    parts = graph.run("Softmax", [scores], 4, 6, 10)
    lost = graph.run("IsNaN", [parts], 4, 6, 10)
    parts = graph.run("Where", [lost, graph.weight(1), parts], 4, 6, 10)
    y = graph.run("MatMul", [parts, value], 4, 6, 8)
    ((names, kernel),) = grouped(graph.program([query, key, value], [y]), fusion)
    assert names == "MatMul Add Softmax IsNaN Where MatMul"
    flops, weights = 2 * 4 * 6 * 10 * (16 + 8), 4 * (60 + 1)
    cost = Cost(flops, 4 * 4 * (6 * 16 + 16 * 10 + 10 * 8), 4 * 4 * 6 * 8, weights, 1)
    assert kernel == Kernel("attention", cost, "float32", 6, 24, 10, 4)


def test_products_of_the_same_activations_are_one_product_of_an_engine() -> None:
    graph = Graph()
    x = graph.value(8, 32)
    gate = graph.run("MatMul", [x, graph.weight(32, 64)], 8, 64)
    up = graph.run("MatMul", [x, graph.weight(32, 64)], 8, 64)
    y = graph.run("Mul", [graph.run("Gelu", [gate], 8, 64), up], 8, 64)
    ((names, kernel),) = grouped(graph.program([x], [y]), "engine")
    assert names == "MatMul MatMul Gelu Mul"
    cost = Cost(2 * 2 * 8 * 64 * 32, 4 * 8 * 32, 4 * 8 * 64, 2 * 4 * 32 * 64, 1)
    assert kernel == Kernel("gemm", cost, "float32", 8, 128, 32)


def test_an_attention_reads_and_writes_any_layout() -> None:
    graph = Graph()
    heads = [graph.value(1, 6, 4, 16) for _ in range(3)]
    for name, item in zip("qkv", heads, strict=True):
        item.name = name
    q, k, v = (graph.run("Transpose", [item], 1, 4, 6, 16) for item in heads)
    y = graph.run("Attention", [q, k, v], 1, 4, 6, 16)
    y = graph.run("Transpose", [y], 1, 6, 4, 16)
    ((names, kernel),) = grouped(graph.program(heads, [y]), "engine")
    assert names == "Transpose Transpose Transpose Attention Transpose"
    assert kernel.kind == "attention"
    assert (kernel.cost.bytes_read, kernel.cost.bytes_written) == (3 * 4 * 384, 4 * 384)


def test_a_softmax_of_something_else_is_no_attention() -> None:
    graph = Graph()
    x = graph.value(4, 10)
    parts = graph.run("Softmax", [graph.run("Relu", [x], 4, 10)], 4, 10)
    y = graph.run("MatMul", [parts, graph.weight(10, 8)], 4, 8)
    found = [names for names, _ in grouped(graph.program([x], [y]), "engine")]
    assert found == ["Relu Softmax", "MatMul"]


def test_a_norm_written_out_is_one_kernel_of_an_engine() -> None:
    graph = Graph()
    x = graph.value(8, 32)
    y = graph.run("Pow", [x, graph.weight(1)], 8, 32)
    y = graph.run("ReduceMean", [y], 8, 1)
    y = graph.run("Reciprocal", [graph.run("Sqrt", [y], 8, 1)], 8, 1)
    y = graph.run("Mul", [x, y], 8, 32)
    ((names, kernel),) = grouped(graph.program([x], [y]), "engine")
    assert names == "Pow ReduceMean Sqrt Reciprocal Mul"
    assert kernel.kind == "reduction"
    assert kernel.cost.kernels == 1
    assert (kernel.cost.bytes_read, kernel.cost.bytes_written) == (4 * 256, 4 * 256)


def test_views_of_a_library_move_nothing() -> None:
    graph = Graph()
    x = graph.value(8, 32)
    y = graph.run("Transpose", [x], 32, 8)
    program = graph.program([x], [y])
    ((_, view),), ((_, moved),) = grouped(program, "library"), grouped(program, "engine")
    assert view.cost == Cost()
    assert moved.cost == Cost(0, 1024, 1024, 0, 1)


@pytest.mark.parametrize(("make", "opset"), [(exported.llama, 20), (exported.vit, 23)])
def test_operators_share_the_time_of_their_groups(make: object, opset: int) -> None:
    program = exported.program(exported.export(*make(1), opset))  # type: ignore[operator]
    Simplify().run(program)
    fused = [kernel for _, kernel in grouped(program, "engine")]
    AnnotateCost(cloud="a100+tensorrt").run(program)
    nodes, device = list(program.phases[0].model.graph), load_device("a100+tensorrt")
    held = sum(value_spec(v).nbytes for v in program.phases[0].model.graph.initializers.values())
    total = sum(SECONDS.get(node).cloud for node in nodes)
    assert total == pytest.approx(sequence_seconds(fused, device, held))
    alone = [kernel for node in nodes if (kernel := KERNEL.find(node)) is not None]
    assert total < 0.7 * sequence_seconds(alone, device, held)
    assert all(SECONDS.get(node).cloud > 0 or not COST.get(node).kernels for node in nodes)
