"""Quantised weights in a graph: codes and scales as initializers, and what makes floats of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

INT4 = "int4"
FLOAT = "float"  # of activations that nothing rounds


def element(value: ir.Value) -> ir.DataType:
    """The element type of a value that has one."""
    assert value.dtype is not None
    return value.dtype


def element_type(value: ir.Value) -> ir.TensorType:
    """The same as the type of a tensor."""
    return ir.TensorType(element(value))


def add_weight(graph: ir.Graph, name: str, codes: np.ndarray, scales: np.ndarray) -> None:
    """Add codes under a name, and their scales under `NAME.scale`."""
    for key, array in ((name, codes), (f"{name}.scale", scales)):
        tensor = ir.tensor(array, name=key)
        value = ir.Value(name=key, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
        value.const_value = tensor
        graph.initializers.add(value)


def add_shapes(
    graph: ir.Graph, name: str, codes: tuple[int, int], scales: tuple[int, int], like: ir.Value
) -> None:
    """The same of codes in 4 bits, without content."""
    kinds = (codes, ir.TensorType(ir.DataType.INT4)), (scales, element_type(like))
    for key, (shape, kind) in zip((name, f"{name}.scale"), kinds, strict=True):
        graph.initializers.add(ir.Value(name=key, shape=ir.Shape(shape), type=kind))


def through(
    graph: ir.Graph,
    name: str,
    options: Mapping[str, int],
    made: str,
    like: ir.Value,
    before: ir.Node,
) -> ir.Value:
    """The floats of what `add_weight` added, by a DequantizeLinear called `made` before a node."""
    codes, scales = graph.initializers[name], graph.initializers[f"{name}.scale"]
    restored = ir.node("DequantizeLinear", [codes, scales], dict(options), name=made)
    output = restored.outputs[0]
    output.name, output.shape, output.type = made, codes.shape, element_type(like)
    restored.metadata_props.update(before.metadata_props)
    graph.insert_before(before, restored)
    return output
