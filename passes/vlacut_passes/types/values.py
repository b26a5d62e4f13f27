"""Values and attributes in another element type."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from vlacut.ir.program import Program


def convert_inside(program: Program, source: ir.DataType, target: ir.DataType) -> None:
    """Give every value of the phases that has a type another one, weights and casts included."""
    for phase in program.phases:
        for value in _values(phase.model):
            if value.dtype == source:
                convert(value, target)
        for node in phase.model.graph.all_nodes():
            set_type_attributes(node, source, target)


def _values(model: ir.Model) -> Iterator[ir.Value]:
    yield from model.graph.inputs
    yield from model.graph.initializers.values()
    for node in model.graph.all_nodes():
        yield from node.outputs


def convert(value: ir.Value, target: ir.DataType) -> None:
    """Give a value another type, and its content where it has one, in place."""
    tensor = value.const_value
    value.type = ir.TensorType(target)  # its own: values may share one
    if tensor is not None and tensor.dtype != target:
        value.const_value = converted(tensor, target, str(tensor.name))


def converted(tensor: ir.TensorProtocol, target: ir.DataType, name: str) -> ir.TensorProtocol:
    """The tensor in another type, converted when it is written."""
    return ir.LazyTensor(
        lambda: ir.tensor(saturated(tensor.numpy(), target), name=name),
        dtype=target,
        shape=ir.Shape(tuple(int(str(dim)) for dim in tensor.shape)),
        name=name,
    )


def saturated(array: np.ndarray, target: ir.DataType) -> np.ndarray:
    """The numbers rounded to a type; finite ones stay finite, as the most that the type has.

    Models mask with the most negative float32, and a row of nothing but -inf has no softmax.
    """
    with np.errstate(over="ignore"):
        made = array.astype(target.numpy())
    over = np.isinf(made) & np.isfinite(array)
    if over.any():
        most = float(target.max)
        made[over] = np.copysign(most, array[over]).astype(target.numpy())
    return np.asarray(made)


def set_type_attributes(node: ir.Node, source: ir.DataType, target: ir.DataType) -> None:
    """Casts, and makers of constants, name their element type in an attribute."""
    if node.op_type == "CastLike" and node.domain == "" and node.outputs[0].dtype == source:
        node.op_type = "Cast"
        node.resize_inputs(1)
        node.attributes["to"] = ir.AttrInt64("to", int(source))
    for name, attribute in list(node.attributes.items()):
        is_type = name in ("to", "dtype") and attribute.type == ir.AttributeType.INT
        if is_type and attribute.as_int() == source:
            node.attributes[name] = ir.AttrInt64(name, int(target))
        elif attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype == source:
            array = saturated(attribute.as_tensor().numpy(), target)
            node.attributes[name] = ir.AttrTensor(name, ir.tensor(array))
