"""convert-types: computes in another element type, where an executor lacks the model's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import onnx_ir as ir

from vlacut.annotation import CONVERTED
from vlacut.errors import PassError
from vlacut.graphs import dtype_name
from vlacut.program import Program
from vlacut.tensor import TensorSpec

_FLOATS = {
    dtype_name(dtype): dtype
    for dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
}


@dataclass(frozen=True)
class ConvertTypes:
    """Turns every value of one floating-point type into another, weights and casts included.

    The observation and the action change their type with it. Weights are converted when they are
    written, one at a time. What was converted is noted on the program, for the report.

    Attributes:
        source, target: `float32`, `float16`, `bfloat16` or `float64`.

    Raises PassError for another type.
    """

    name: ClassVar[str] = "convert-types"
    source: str = "bfloat16"
    target: str = "float32"

    def run(self, program: Program) -> None:
        """See `vlacut.pipeline.Pass`."""
        for name in (self.source, self.target):
            if name not in _FLOATS:
                raise PassError(f"convert-types knows {', '.join(_FLOATS)}; {name} is none of them")
        source, target = _FLOATS[self.source], _FLOATS[self.target]
        for phase in program.phases:
            for value in _values(phase.graph):
                if value.dtype == source:
                    _convert(value, target)
            for node in phase.graph.graph.all_nodes():
                _convert_attributes(node, source, target)
        program.inputs = tuple(self._renamed(spec) for spec in program.inputs)
        program.outputs = tuple(self._renamed(spec) for spec in program.outputs)
        CONVERTED.put(program, f"{self.source} to {self.target}")

    def _renamed(self, spec: TensorSpec) -> TensorSpec:
        return replace(spec, dtype=self.target) if spec.dtype == self.source else spec


def _values(model: ir.Model) -> Iterator[ir.Value]:
    yield from model.graph.inputs
    yield from model.graph.initializers.values()
    for node in model.graph.all_nodes():
        yield from node.outputs


def _convert(value: ir.Value, target: ir.DataType) -> None:
    tensor = value.const_value
    value.dtype = target
    if tensor is not None:
        value.const_value = ir.LazyTensor(
            lambda: ir.tensor(tensor.numpy().astype(target.numpy()), name=tensor.name),
            dtype=target,
            shape=ir.Shape(tuple(int(str(dim)) for dim in tensor.shape)),
            name=tensor.name,
        )


def _convert_attributes(node: ir.Node, source: ir.DataType, target: ir.DataType) -> None:
    """Casts, and makers of constants, name their element type in an attribute."""
    for name, attribute in list(node.attributes.items()):
        is_type = name in ("to", "dtype") and attribute.type == ir.AttributeType.INT
        if is_type and attribute.as_int() == source:
            node.attributes[name] = ir.AttrInt64(name, int(target))
        elif attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype == source:
            array = attribute.as_tensor().numpy().astype(target.numpy())
            node.attributes[name] = ir.AttrTensor(name, ir.tensor(array))
