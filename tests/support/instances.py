"""Random graphs that hold several instances of the same layers, over numbers of rows of their own.

A layer is drawn once and written out for each instance: products with weights of all, what works
row by row, attention, and what mixes rows otherwise. What is drawn is a pure function of the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from vlacut.frontends.onnx import finish_graph

WIDTH, HEADS = 8, 2
_UNARY = ("Tanh", "Sigmoid", "Relu", "Erf", "Neg")


@dataclass
class Writer:
    """Nodes and weights of a graph; values are by name."""

    numbers: np.random.Generator
    flat: bool  # rows are the first axis of two
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def op(self, kind: str, *inputs: str, **attributes: object) -> str:
        """A new operator; the name of what it makes."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def weight(self, name: str, *shape: int) -> str:
        """A weight, drawn when it is first named."""
        if name not in self.weights:
            drawn = self.numbers.standard_normal(shape) / np.sqrt(shape[0])
            self.weights[name] = drawn.astype(np.float32)
        return name

    def whole(self, *numbers: int) -> str:
        """A constant of whole numbers."""
        name = f"n{'_'.join(map(str, numbers))}"
        self.weights[name] = np.array(numbers, np.int64)
        return name

    def given(self, name: str, *shape: int) -> str:
        """An input."""
        self.inputs[name] = shape
        return name

    def shape(self, rows: int) -> tuple[int, ...]:
        """Of some rows."""
        return (rows, WIDTH) if self.flat else (1, rows, WIDTH)


# A layer writes an instance: what comes in, how many rows that has, the instance, its own name.
Layer = Callable[[Writer, str, int, int, str], str]


def _product(writer: Writer, value: str, rows: int, instance: int, name: str) -> str:
    if writer.flat:
        bias = writer.weight(f"{name}.bias", WIDTH)
        return writer.op("Gemm", value, writer.weight(name, WIDTH, WIDTH), bias, transB=1)
    turned = writer.op("Transpose", writer.weight(name, WIDTH, WIDTH), perm=[1, 0])
    made = writer.op("MatMul", value, turned)
    return writer.op("Add", made, writer.weight(f"{name}.bias", WIDTH))


def _unary(writer: Writer, value: str, rows: int, instance: int, name: str) -> str:
    return writer.op(_UNARY[sum(map(ord, name)) % len(_UNARY)], value)


def _norm(writer: Writer, value: str, rows: int, instance: int, name: str) -> str:
    scale = writer.weight(f"{name}.scale", WIDTH)
    if sum(map(ord, name)) % 2:
        return writer.op("LayerNormalization", value, scale, axis=-1)
    squares = writer.op("Mul", value, value)
    mean = writer.op("ReduceMean", squares, writer.whole(-1), keepdims=1)
    writer.weights["epsilon"] = np.full(1, 1e-3, np.float32)
    root = writer.op("Sqrt", writer.op("Add", mean, "epsilon"))
    return writer.op("Mul", writer.op("Div", value, root), scale)


def _residual(writer: Writer, value: str, rows: int, instance: int, name: str) -> str:
    inner = _unary(writer, _product(writer, value, rows, instance, name), rows, instance, name)
    return writer.op("Add", value, _product(writer, inner, rows, instance, f"{name}.down"))


def _own_rows(writer: Writer, value: str, rows: int, instance: int, name: str) -> str:
    """Something for each row of each instance, as positions are."""
    return writer.op("Mul", value, writer.given(f"{name}.{instance}", rows, WIDTH))


def _own_vector(writer: Writer, value: str, rows: int, instance: int, name: str) -> str:
    """Something for all rows of each instance, as the time of a noise level is."""
    return writer.op("Add", value, writer.given(f"{name}.{instance}", 1, WIDTH))


def _mean_of_rows(writer: Writer, value: str, rows: int, instance: int, name: str) -> str:
    mean = writer.op("ReduceMean", value, writer.whole(-2), keepdims=1)
    return writer.op("Sub", value, mean)


def _only_first(writer: Writer, value: str, rows: int, instance: int, name: str) -> str:
    """The instances differ here."""
    return writer.op("Tanh", value) if instance == 0 else value


def _attention(writer: Writer, value: str, rows: int, instance: int, name: str) -> str:
    wide = WIDTH // HEADS
    query, key, mixed = (
        writer.op(
            "Transpose",
            writer.op(
                "Reshape",
                _product(writer, value, rows, instance, f"{name}.{which}"),
                writer.whole(1, rows, HEADS, wide),
            ),
            perm=[0, 2, 1, 3],
        )
        for which in "qkv"
    )
    angles = writer.given(f"{name}.angles.{instance}", 1, 1, rows, wide)
    query, key = (_turned(writer, one, angles, wide) for one in (query, key))
    scores = writer.op("MatMul", query, writer.op("Transpose", key, perm=[0, 1, 3, 2]))
    mixed = writer.op("MatMul", writer.op("Softmax", scores, axis=-1), mixed)
    back = writer.op("Transpose", mixed, perm=[0, 2, 1, 3])
    joined = writer.op("Reshape", back, writer.whole(*writer.shape(rows)))
    made = _product(writer, joined, rows, instance, f"{name}.o")
    return writer.op("Add", value, made)


def _turned(writer: Writer, value: str, angles: str, wide: int) -> str:
    """A rotary embedding, halves convention."""
    half, axis, step = wide // 2, writer.whole(3), writer.whole(1)
    low = writer.op("Slice", value, writer.whole(0), writer.whole(half), axis, step)
    high = writer.op("Slice", value, writer.whole(half), writer.whole(wide), axis, step)
    turned = writer.op("Concat", writer.op("Neg", high), low, axis=-1)
    cosines, sines = writer.op("Cos", angles), writer.op("Sin", angles)
    return writer.op("Add", writer.op("Mul", value, cosines), writer.op("Mul", turned, sines))


ROW_BY_ROW: tuple[Layer, ...] = (_product, _unary, _norm, _residual, _own_rows, _own_vector)
ATTENDING: tuple[Layer, ...] = (_attention,)
LINEAR: tuple[Layer, ...] = (_product,)
ALL: tuple[Layer, ...] = (*ROW_BY_ROW, _attention, _attention, _mean_of_rows, _only_first)


def instances(
    seed: int, rows: Sequence[int], layers: Sequence[Layer] = ALL, chained: bool = False
) -> tuple[ir.Model, dict[str, np.ndarray]]:
    """A graph of an instance for each number of rows, and what it is given.

    With `chained`, an instance reads a row of what the one before made in a layer before.
    """
    numbers = np.random.default_rng(seed)
    writer = Writer(numbers, flat=bool(numbers.integers(2)))
    values = [writer.given(f"x{at}", *writer.shape(many)) for at, many in enumerate(rows)]
    outputs: list[str] = []
    for depth in range(int(numbers.integers(2, 6))):
        layer = layers[int(numbers.integers(len(layers)))]
        shared = numbers.random() < 0.2  # the weights of another layer once more
        name = f"l{int(numbers.integers(depth + 1)) if shared else depth}"
        before = list(values)
        values = [
            layer(writer, value, rows[at], at, f"{name}.{layer.__name__}")
            for at, value in enumerate(values)
        ]
        if chained and numbers.random() < 0.5:
            values = [
                values[0],
                *(_linked(writer, *two) for two in zip(values[1:], before, strict=False)),
            ]
        if numbers.random() < 0.3:
            outputs += values[:1]
    head = [_product(writer, value, rows[at], at, "head") for at, value in enumerate(values)]
    outputs += [*head, *(writer.op("ArgMax", one, axis=-1) for one in head)]
    return _model(writer, outputs), {
        name: numbers.standard_normal(shape).astype(np.float32)
        for name, shape in writer.inputs.items()
    }


def _linked(writer: Writer, value: str, other: str) -> str:
    row = writer.op("ReduceMax", other, writer.whole(-2), keepdims=1)
    return writer.op("Add", value, row)


def _model(writer: Writer, outputs: Sequence[str]) -> ir.Model:
    distinct = list(dict.fromkeys(outputs))
    kinds = {node.output[0]: node.op_type for node in writer.nodes}
    types = {"ArgMax": TensorProto.INT64}
    graph = helper.make_graph(
        writer.nodes,
        "instances",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in writer.inputs.items()
        ],
        [
            helper.make_tensor_value_info(name, types.get(kinds[name], TensorProto.FLOAT), None)
            for name in distinct
        ],
        [numpy_helper.from_array(array, name) for name, array in writer.weights.items()],
    )
    opsets = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return finish_graph(ir.from_proto(model), {}, "random instances")
