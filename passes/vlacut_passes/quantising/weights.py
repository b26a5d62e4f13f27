"""Quantised weights in a graph: codes and scales as initializers, and what makes floats of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Coded:
    """A weight as graphs hold it. Phases that share a weight share this, and so its memory.

    Attributes:
        codes: of int8 or float8, or of int4, two in a byte.
        scales: of the type that the weight had.
    """

    codes: ir.TensorProtocol
    scales: ir.TensorProtocol


def coded(
    name: str, codes: np.ndarray, scales: np.ndarray, kind: ir.DataType, like: ir.Value
) -> Coded:
    """A weight of codes and scales: the codes as a type, the scales as a value's."""
    of_scales = ir.tensor(scales.astype(element(like).numpy()), name=f"{name}.scale")
    if kind != ir.DataType.INT4:
        return Coded(ir.tensor(codes.astype(kind.numpy()), name=name), of_scales)
    nibbles = codes.astype(np.int8).ravel().view(np.uint8) & 0xF
    if nibbles.size % 2:
        nibbles = np.append(nibbles, np.uint8(0))
    packed = nibbles[::2] | nibbles[1::2] << np.uint8(4)
    return Coded(ir.PackedTensor(packed, kind, shape=ir.Shape(codes.shape), name=name), of_scales)


def add_weight(graph: ir.Graph, name: str, weight: Coded) -> None:
    """Add codes under a name, and their scales under `NAME.scale`."""
    for key, tensor in ((name, weight.codes), (f"{name}.scale", weight.scales)):
        value = ir.Value(
            name=key, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype)
        )
        value.const_value = tensor
        graph.initializers.add(value)


def add_shapes(
    graph: ir.Graph,
    name: str,
    codes: tuple[int, ...],
    scales: tuple[int, ...],
    like: ir.Value,
    kind: ir.DataType = ir.DataType.INT4,
) -> None:
    """The same without content."""
    kinds = (codes, ir.TensorType(kind)), (scales, element_type(like))
    for key, (shape, of) in zip((name, f"{name}.scale"), kinds, strict=True):
        graph.initializers.add(ir.Value(name=key, shape=ir.Shape(shape), type=of))


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
