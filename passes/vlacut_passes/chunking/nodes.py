"""Operators that are added to the graph of a loop, by a prefix of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from vlacut.errors import PassError
from vlacut.ir.rewriting import constant
from vlacut.tensor import TensorSpec


class Nodes:
    """Adds operators, of one type unless another is given.

    Args:
        graph: to add to.
        dtype: of what they make.
    """

    def __init__(self, graph: ir.Graph, dtype: ir.DataType) -> None:
        self.graph, self.dtype = graph, dtype
        self._added: list[ir.Node] = []

    def add(
        self,
        kind: str,
        inputs: Sequence[ir.Value],
        shape: Sequence[int],
        attributes: Mapping[str, int] | None = None,
        dtype: ir.DataType | None = None,
    ) -> ir.Value:
        """Add an operator; its output."""
        name = f"real_time_chunking.{len(self._added)}"
        node = ir.node(kind, list(inputs), dict(attributes or {}), name=name)
        made = node.outputs[0]
        made.name, made.type = name, ir.TensorType(dtype or self.dtype)
        made.shape = ir.Shape(list(shape))
        self.graph.append(node)
        self._added.append(node)
        return made

    def input(self, spec: TensorSpec, dtype: ir.DataType) -> ir.Value:
        """Add an input of the graph."""
        value = ir.Value(name=spec.name, shape=ir.Shape(spec.shape), type=ir.TensorType(dtype))
        self.graph.inputs.append(value)
        return value

    def constant(self, array: np.ndarray) -> ir.Value:
        """A constant of the array's type."""
        return constant(self.graph, ir.tensor(array))

    def numbers(self, numbers: Sequence[int]) -> ir.Value:
        """Whole numbers, as shapes and places are."""
        return self.constant(np.array(numbers, np.int64))

    def reshape(self, value: ir.Value, shape: Sequence[int]) -> ir.Value:
        """A value in another shape, of its type."""
        return self.add("Reshape", [value, self.numbers(shape)], shape, dtype=value.dtype)

    def slice(self, value: ir.Value, start: int, end: int, shape: Sequence[int]) -> ir.Value:
        """Some entries along the first axis."""
        return self.add("Slice", [value, *(self.numbers([one]) for one in (start, end, 0))], shape)

    def front(self) -> None:
        """Put them first, for what was there reads them."""
        nodes = [node for node in self._added if node.graph is self.graph]
        first = next(node for node in self.graph if node not in nodes)
        self.graph.remove(nodes)
        self.graph.insert_before(first, nodes)


def named(values: Sequence[ir.Value], name: str) -> ir.Value:
    """The value of that name; PassError if there is none."""
    found = [value for value in values if value.name == name]
    if not found:
        raise PassError(f"the loop has no input {name!r}")
    return found[0]
