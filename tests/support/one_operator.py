"""Programs of one operator."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from vlacut.ir.graphs import value_spec
from vlacut.ir.program import Phase, Program

FLOAT, HALF, BFLOAT16, INT8, INT64 = (
    ir.DataType.FLOAT,
    ir.DataType.FLOAT16,
    ir.DataType.BFLOAT16,
    ir.DataType.INT8,
    ir.DataType.INT64,
)
Shapes = Sequence[tuple[int, ...]]


def tensor(name: str, shape: tuple[int, ...], dtype: ir.DataType = FLOAT) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))


def one_operator(
    kind: str,
    inputs: Sequence[ir.Value | None],
    output: tuple[int, ...],
    weights: Sequence[ir.Value] = (),
    dtype: ir.DataType = FLOAT,
    domain: str = "",
    **attributes: object,
) -> Program:
    """A program of one operator; `weights` are the inputs that are initializers."""
    node = ir.node(kind, inputs, attributes, domain=domain, name="it")
    made = node.outputs[0]
    made.name, made.dtype, made.shape = "y", dtype, ir.Shape(output)
    given = list(dict.fromkeys(item for item in inputs if item is not None and item not in weights))
    graph = ir.Graph(given, [made], nodes=[node], initializers=weights, opset_imports={"": 23})
    phase = Phase("main", ir.Model(graph, ir_version=10))
    specs = tuple(value_spec(value) for value in given)
    return Program("test", (phase,), specs, (value_spec(made),))
