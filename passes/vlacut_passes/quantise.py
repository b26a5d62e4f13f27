"""quantise: products of weights in 8 bits, as pairs of QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from vlacut.errors import PassError
from vlacut.ir.annotation import CONVERTED
from vlacut.ir.program import Program
from vlacut.ir.rewriting import constant, remove_unused
from vlacut_passes.types.calibration import Product, largest_activations, products

_TARGETS = {
    "int8": (ir.DataType.INT8, 127.0),
    "float8e4m3fn": (ir.DataType.FLOAT8E4M3FN, 448.0),
}
# The smallest normal float16: scales may be converted to it, and smaller ones lose digits there.
_LEAST_SCALE = 2.0**-14


@dataclass(frozen=True)
class Quantise:
    """Puts weights, and what they are multiplied with, through 8 bits, symmetrically.

    What an engine reads as an 8-bit product is a DequantizeLinear on either side of it. A weight
    has a scale for each output channel, and is stored in 8 bits; an activation has one scale, from
    the largest magnitude it takes in the example's control step, over all trips. So the program
    needs content in its weights; one example stands for all, as with any post-training calibration.

    Attributes:
        target: `int8` or `float8e4m3fn`.
        smallest: elements of a weight from which on its products are quantised.

    Raises PassError for another target, and for a model without content or without such products.
    """

    name: ClassVar[str] = "quantise"
    target: str = "int8"
    smallest: int = 4096

    def run(self, program: Program) -> None:
        """See `vlacut.ir.pipeline.Pass`."""
        if self.target not in _TARGETS:
            raise PassError(f"quantise knows {', '.join(_TARGETS)}; {self.target} is neither")
        found = {phase.name: products(phase.model.graph, self.smallest) for phase in program.phases}
        if not any(found.values()):
            raise PassError(f"no product of a weight of {self.smallest} elements or more")
        largest = largest_activations(program, found)
        for phase in program.phases:
            for product in found[phase.name]:
                self._quantise(phase.model.graph, product, largest[phase.name])
            remove_unused(phase.model)
        count = sum(map(len, found.values()))
        said = CONVERTED.find(program)
        text = f"{count} products to {self.target}"
        CONVERTED.put(program, f"{said}; {text}" if said else text)

    def _quantise(self, graph: ir.Graph, product: Product, largest: dict[ir.Value, float]) -> None:
        dtype, most = _TARGETS[self.target]
        node, weight = product.node, product.weight
        activation = node.inputs[0]
        assert activation is not None
        scale = max(largest[activation] / most, _LEAST_SCALE)
        node.replace_input_with(0, _through(graph, product, activation, scale, dtype))
        name = f"{weight.name}.{self.target}.{product.channel}"
        if name not in graph.initializers:
            _add_quantised(graph, weight, product.channel, name, dtype, most)
        restored = ir.node(
            "DequantizeLinear",
            [graph.initializers[name], graph.initializers[f"{name}.scale"]],
            {"axis": product.channel},
            name=f"{node.name}.weight",
        )
        output = restored.outputs[0]
        output.name, output.shape, output.type = restored.name, weight.shape, _type(weight)
        restored.metadata_props.update(node.metadata_props)
        reader = product.reader
        reader.graph.insert_before(reader, restored)  # type: ignore[union-attr]
        reader.replace_input_with(list(reader.inputs).index(weight), output)


def _type(value: ir.Value) -> ir.TensorType:
    assert value.dtype is not None
    return ir.TensorType(value.dtype)


def _through(
    graph: ir.Graph, product: Product, value: ir.Value, scale: float, dtype: ir.DataType
) -> ir.Value:
    """The activation through 8 bits and back, before its product."""
    node = product.node
    assert value.dtype is not None
    factor = constant(graph, ir.tensor(np.array(scale, value.dtype.numpy())))
    zero = constant(graph, ir.tensor(np.zeros((), dtype.numpy())))
    small = ir.node("QuantizeLinear", [value, factor, zero], name=f"{node.name}.quantise")
    back = ir.node("DequantizeLinear", [small.outputs[0], factor], name=f"{node.name}.input")
    for made, kind in ((small, ir.TensorType(dtype)), (back, _type(value))):
        output = made.outputs[0]
        output.name, output.shape, output.type = made.name, value.shape, kind
        made.metadata_props.update(node.metadata_props)
        graph.insert_before(node, made)
    return back.outputs[0]


def _add_quantised(
    graph: ir.Graph, weight: ir.Value, channel: int, name: str, dtype: ir.DataType, most: float
) -> None:
    """Add the weight in 8 bits, and its scales, by channel."""
    assert weight.const_value is not None
    array = weight.const_value.numpy().astype(np.float32)
    others = tuple(axis for axis in range(array.ndim) if axis != channel)
    scales = np.maximum(np.abs(array).max(axis=others) / most, _LEAST_SCALE)
    scaled = array / scales.reshape([-1 if axis == channel else 1 for axis in range(array.ndim)])
    if dtype == ir.DataType.INT8:
        scaled = np.rint(scaled)
    tensors = {
        name: ir.tensor(np.clip(scaled, -most, most).astype(dtype.numpy()), name=name),
        f"{name}.scale": ir.tensor(
            scales.astype(_type(weight).dtype.numpy()), name=f"{name}.scale"
        ),
    }
    for key, tensor in tensors.items():
        shape = ir.Shape(tuple(int(str(dim)) for dim in tensor.shape))
        value = ir.Value(name=key, shape=shape, type=ir.TensorType(tensor.dtype))
        value.const_value = tensor
        graph.initializers.add(value)
