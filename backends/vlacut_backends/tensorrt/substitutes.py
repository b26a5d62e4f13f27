"""Substitutes for operators on integers and booleans that TensorRT has only for other types.

By the operator table of its ONNX parser (see `support`), CumSum and Clip take no INT64, and
operators that pad, scatter or compare take no BOOL. Every rewrite is exact.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from vlacut.ir.rewriting import constant, remove_unused, replace_value

_INTEGERS = (ir.DataType.INT64, ir.DataType.INT32)
_BOOL, _INT32 = ir.DataType.BOOL, ir.DataType.INT32
# Operators on booleans that are the same on 0 and 1.
_AS_NUMBERS = frozenset(
    {"Pad", "Equal", "ScatterND", "ScatterElements", "ReduceMax", "ReduceMin", "Max", "Min"}
)
_MOST_SUMMED = 4096  # elements along the axis: the triangle of ones has their square


def substitute(model: ir.Model) -> None:
    """Replace what TensorRT lacks, in place; the rules name what cannot be replaced."""
    for node in list(model.graph):
        if node.domain != "" or not node.inputs or node.inputs[0] is None:
            continue
        dtype = node.inputs[0].dtype
        if dtype == ir.DataType.BOOL and node.op_type in _AS_NUMBERS:
            _as_numbers(model.graph, node)
        rewrite = _REWRITES.get(node.op_type) if dtype in _INTEGERS else None
        made = rewrite(model.graph, node) if rewrite is not None else None
        if made is not None:
            replace_value(node.outputs[0], made)
    remove_unused(model)


def _running_sum(graph: ir.Graph, node: ir.Node) -> ir.Value | None:
    """A sum over a product with a triangle of ones: out[i] = sum over j of x[j] * (j <= i)."""
    value, axis_value = node.inputs
    assert value is not None
    axis_tensor = axis_value.const_value if axis_value is not None else None
    if value.shape is None or not value.shape.is_static() or axis_tensor is None:
        return None
    shape = [int(str(dim)) for dim in value.shape]
    axis = int(axis_tensor.numpy().item()) % len(shape)
    count = shape[axis]
    if count > _MOST_SUMMED:
        return None
    row, column = np.indices((count, count))
    low, high = (column, row) if node.attributes.get_int("reverse", 0) else (row, column)
    ones = low < high if node.attributes.get_int("exclusive", 0) else low <= high
    assert value.dtype is not None
    triangle = ones.astype(value.dtype.numpy()).reshape(
        count, count, *[1] * (len(shape) - axis - 1)
    )
    wide = [*shape[: axis + 1], 1, *shape[axis + 1 :]]
    spread = _after(graph, node, "Unsqueeze", [value, _numbers(graph, [axis + 1])], wide)
    full = [*shape[: axis + 1], count, *shape[axis + 1 :]]
    kept = _after(graph, node, "Mul", [spread, constant(graph, ir.tensor(triangle))], full)
    made = _after(graph, node, "ReduceSum", [kept, _numbers(graph, [axis])], shape)
    made.producer().attributes["keepdims"] = ir.AttrInt64("keepdims", 0)  # type: ignore[union-attr]
    return made


def _as_numbers(graph: ir.Graph, node: ir.Node) -> None:
    """Let an operator on booleans read and make 0 and 1."""
    for index, value in enumerate(node.inputs):
        if value is not None and value.dtype == _BOOL:
            node.replace_input_with(index, _cast(graph, node, value, _INT32))
    made = node.outputs[0]
    if made.dtype == _BOOL and node.op_type != "Equal":
        number = ir.node(node.op_type, node.inputs, node.attributes, name=f"{node.name}.number")
        number.outputs[0].name, number.outputs[0].shape = number.name, made.shape
        number.outputs[0].type = ir.TensorType(_INT32)
        number.metadata_props.update(node.metadata_props)
        graph.insert_before(node, number)
        replace_value(made, _cast(graph, node, number.outputs[0], _BOOL))


def _cast(graph: ir.Graph, node: ir.Node, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    """A cast before an operator."""
    cast = ir.node(
        "Cast", [value], {"to": int(dtype)}, name=f"{node.name}.{value.name}.{dtype.name}"
    )
    made = cast.outputs[0]
    made.name, made.shape, made.type = cast.name, value.shape, ir.TensorType(dtype)
    graph.insert_before(node, cast)
    return made


def _clipped(graph: ir.Graph, node: ir.Node) -> ir.Value | None:
    """The greater of the lower bound and the lesser of the value and the upper bound."""
    value, *bounds = node.inputs
    assert value is not None
    assert value.shape is not None
    made = value
    for kind, bound in zip(("Max", "Min"), bounds, strict=False):
        if bound is not None:
            made = _after(graph, node, kind, [made, bound], [int(str(dim)) for dim in value.shape])
    return made if made is not value else None


def _numbers(graph: ir.Graph, numbers: list[int]) -> ir.Value:
    return constant(graph, ir.tensor(np.array(numbers, np.int64)))


def _after(
    graph: ir.Graph, node: ir.Node, kind: str, inputs: list[ir.Value], shape: list[int]
) -> ir.Value:
    """A new operator before the one it replaces, its output of the first input's type."""
    made = ir.node(kind, inputs, name=f"{node.name}.{kind}")
    output = made.outputs[0]
    output.name, output.shape, output.type = made.name, ir.Shape(shape), inputs[0].type
    made.metadata_props.update(node.metadata_props)
    graph.insert_before(node, made)
    return output


_REWRITES = {"CumSum": _running_sum, "Clip": _clipped}
