"""Products as ONNX Runtime's kernels for weights that are not packed ahead are quick at them.

Sessions do not pack weights ahead, so that all of a side map one copy (`opening.py`). Then a
product of a matrix [inputs, outputs] with two rows or more copies it at every run into the panels
that the kernel reads, across its rows: for 7 to 22 rows that took up to three times the product
(measured on Zen 3, one thread, ONNX Runtime 1.31). The matrix as PyTorch has it, [outputs, inputs],
needs no such copy: it stands on the left, and the few rows are what is put into panels; with more
rows it is copied along its rows. Where sessions of a model do pack weights ahead, a product that
transposes it is the quickest for any number of rows.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from vlacut.ir.rewriting import constant, name_uniquely, remove_unused, replace_value

# A smaller matrix stays in the cache, where copying it costs little beside starting operators.
_LEAST_BYTES = 1 << 18
# The kernels' panels are 16 columns wide: beyond two the matrix on the left is the slower way.
_FEW_ROWS = 32


def choose_layouts(model: ir.Model, where: str, packed: bool = False) -> None:
    """Let large float32 products read their weights as [outputs, inputs], in place.

    That of one row, or of many, becomes a Gemm that transposes it; one of few rows a Gemm with the
    weight on the left. A Gemm of the model that transposes its weight is one already, and is
    turned where its rows are few. Sums are the same, in another order. `where` is for errors, and
    `packed` says whether sessions of the model pack weights ahead.
    """
    graph = model.graph
    turned: dict[ir.Value, ir.Value] = {}
    for node in list(graph.all_nodes()):
        weight = _weight(node)
        rows = _rows(node) if weight is not None else 0
        if weight is not None and rows:
            few = not packed and 1 < rows <= _FEW_ROWS
            _Rewriting(graph, node, rows, few).read(_by_outputs(graph, node, weight, turned))
    remove_unused(model)
    name_uniquely(model, where)


def _weight(node: ir.Node) -> ir.Value | None:
    """The large matrix of weights that a product of rows reads; None of others."""
    if node.domain or node.op_type not in ("MatMul", "Gemm") or len(node.inputs) < 2:
        return None
    if node.op_type == "Gemm" and (
        _number(node, "transA", 0)
        or _number(node, "alpha", 1) != 1
        or _number(node, "beta", 1) != 1
    ):
        return None
    value = node.inputs[1]
    if value is None or value.dtype != ir.DataType.FLOAT or value.shape is None:
        return None
    if len(value.shape) != 2 or not value.shape.is_static():
        return None
    if 4 * math.prod(value.shape.numpy()) < _LEAST_BYTES:
        return None
    maker = value.producer()
    if maker is None:
        return value if value.is_initializer() else None
    return value if _is_turned_weight(maker) else None


def _number(node: ir.Node, name: str, default: float) -> float:
    """An attribute of a Gemm: a whole number or a factor."""
    found = node.attributes.get(name)
    return default if found is None else float(found.value)


def _is_turned_weight(maker: ir.Node) -> bool:
    """Whether an operator only turns a weight."""
    source = maker.inputs[0] if maker.op_type == "Transpose" and not maker.domain else None
    turns = list(maker.attributes.get_ints("perm", (1, 0))) == [1, 0]
    return source is not None and source.is_initializer() and turns


def _rows(node: ir.Node) -> int:
    """How many rows a product has; 0 if that is not known."""
    source = node.inputs[0]
    if source is None or source.shape is None or not source.shape.is_static():
        return 0
    return math.prod(source.shape.numpy()[:-1]) if len(source.shape) > 1 else 0


def _by_outputs(
    graph: ir.Graph, node: ir.Node, weight: ir.Value, turned: dict[ir.Value, ir.Value]
) -> ir.Value:
    """The weight as [outputs, inputs]: itself, what it was turned from, or what turns it."""
    if node.op_type == "Gemm" and _number(node, "transB", 0):
        return weight
    maker = weight.producer()
    if maker is not None and maker.inputs[0] is not None:
        return maker.inputs[0]
    if weight not in turned:
        turn = ir.node("Transpose", [weight], {"perm": [1, 0]}, name=f"{weight.name}.turn")
        made = turn.outputs[0]
        assert weight.shape is not None
        made.name, made.type = f"{weight.name}.turned", weight.type
        made.shape = ir.Shape(list(weight.shape)[::-1])
        graph.insert_before(graph[0], turn)
        turned[weight] = made
    return turned[weight]


class _Rewriting:
    """Puts operators in the place of a product, in its own graph.

    Args:
        graph: the model's, where constants are.
        node: the product.
        rows: that it has.
        few: whether the weight is to stand on the left.
    """

    def __init__(self, graph: ir.Graph, node: ir.Node, rows: int, few: bool) -> None:
        self._graph, self._node, self._rows, self._few = graph, node, rows, few

    def read(self, weight: ir.Value) -> None:
        """Let it read a weight that is [outputs, inputs]."""
        node = self._node
        source, before = node.inputs[0], node.outputs[0]
        assert source is not None
        assert source.shape is not None
        assert weight.shape is not None
        outputs, inputs = (int(str(size)) for size in weight.shape)
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if node.op_type == "Gemm" and _number(node, "transB", 0) and not self._few:
            return
        flat = self._shaped(source, (self._rows, inputs))
        if self._few:
            tall = self._new("Gemm", [weight, flat], (outputs, self._rows), transB=1)
            made = self._new("Transpose", [tall], (self._rows, outputs), perm=[1, 0])
            if bias is not None:
                made = self._new("Add", [made, bias], (self._rows, outputs))
        else:
            read = [flat, weight] if bias is None else [flat, weight, bias]
            made = self._new("Gemm", read, (self._rows, outputs), transB=1)
        shape = (*source.shape.numpy()[:-1], outputs)
        replace_value(before, self._shaped(made, shape))
        assert node.graph is not None
        node.graph.remove(node, safe=True)

    def _shaped(self, value: ir.Value, shape: tuple[int, ...]) -> ir.Value:
        assert value.shape is not None
        if tuple(value.shape.numpy()) == shape:
            return value
        return self._new("Reshape", [value, self._whole(shape)], shape)

    def _whole(self, numbers: tuple[int, ...]) -> ir.Value:
        return constant(self._graph, ir.tensor(np.array(numbers, np.int64)))

    def _new(
        self,
        kind: str,
        inputs: list[ir.Value],
        shape: tuple[int, ...],
        **attributes: int | list[int],
    ) -> ir.Value:
        like = self._node
        made = ir.node(kind, inputs, dict(attributes), name=f"{like.name}_{kind.lower()}")
        value = made.outputs[0]
        value.type, value.shape = like.outputs[0].type, ir.Shape(shape)
        value.name = f"{like.outputs[0].name}_{kind.lower()}"
        made.metadata_props.update(like.metadata_props)
        assert like.graph is not None
        like.graph.insert_before(like, made)
        return value
