"""Chain: builds the ONNX graph of a sample, operator by operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

_OPSET = 20
_IR_VERSION = 10
Attribute = int | float | str | Sequence[int]


@dataclass(frozen=True)
class Sample:
    """A graph to measure.

    Attributes:
        name: for messages, e.g. `MatMul 16x1024x4096 x4`.
        model: the graph; weights with content.
    """

    name: str
    model: ir.Model


class Chain:
    """Builds a graph of one sample operator by operator; its weights are named w0, w1, ..."""

    def __init__(self, seed: int, opset: int = _OPSET) -> None:
        self._opset = opset
        self._numbers = np.random.default_rng(seed)
        self._nodes: list[ir.Node] = []
        self._inputs: list[ir.Value] = []
        self._weights: list[ir.Value] = []

    @property
    def first(self) -> ir.Value:
        """The first input, for operators of two: every input has its price in a call."""
        return self._inputs[0]

    def input(self, *shape: int) -> ir.Value:
        """Another input of float32, of this shape."""
        made = ir.val(f"x{len(self._inputs)}", ir.DataType.FLOAT, shape)
        self._inputs.append(made)
        return made

    def whole_input(self, *shape: int) -> ir.Value:
        """Another input, of whole numbers; they are measured as 0."""
        made = ir.val(f"x{len(self._inputs)}", ir.DataType.INT64, shape)
        self._inputs.append(made)
        return made

    def weight(self, *shape: int) -> ir.Value:
        """Normal numbers, scaled to keep the variance of what they are multiplied with."""
        numbers = self._numbers.standard_normal(shape, dtype=np.float32)
        return self.constant(numbers / np.float32(np.sqrt(shape[0])))

    def codes(self, most: int, *shape: int) -> np.ndarray:
        """Whole numbers from -most to most."""
        return self._numbers.integers(-most, most + 1, shape)

    def constant(self, array: np.ndarray) -> ir.Value:
        """A weight with this content."""
        name = f"w{len(self._weights)}"
        made = ir.Value(name=name, const_value=ir.tensor(array, name=name))
        assert made.const_value is not None
        made.type = ir.TensorType(made.const_value.dtype)
        made.shape = ir.Shape(array.shape)
        self._weights.append(made)
        return made

    def run(
        self,
        kind: str,
        inputs: Sequence[ir.Value],
        shape: Sequence[int],
        dtype: ir.DataType = ir.DataType.FLOAT,
        **attributes: Attribute,
    ) -> ir.Value:
        """What an operator of this kind makes of inputs, in a shape and a type that are given."""
        node = ir.node(kind, inputs, attributes, name=f"n{len(self._nodes)}")
        output = node.outputs[0]
        output.name, output.dtype, output.shape = f"y{len(self._nodes)}", dtype, ir.Shape(shape)
        self._nodes.append(node)
        return output

    def model(self, output: ir.Value) -> ir.Model:
        """The graph up to an output."""
        graph = ir.Graph(
            self._inputs,
            [output],
            nodes=self._nodes,
            initializers=self._weights,
            opset_imports={"": self._opset},
            name="sample",
        )
        return ir.Model(graph, ir_version=_IR_VERSION)
