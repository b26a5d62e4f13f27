"""Graphs made of operators of another one, with other values in the place of what those read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from vlacut.ir.program import Phase
from vlacut.ir.rewriting import constant, copy_of, name_uniquely, remove_unused


class Extract:
    """A graph under construction.

    Args:
        model: whose operators are copied; weights are shared.
    """

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        opsets = dict(model.graph.opset_imports)
        self.graph = ir.Graph([], [], nodes=[], opset_imports=opsets, name=model.graph.name)
        self._made: dict[ir.Value, ir.Value] = {}
        self._inputs: dict[str, ir.Value] = {}

    def input(self, name: str, like: ir.Value, shape: Sequence[int] | None = None) -> ir.Value:
        """The graph's input of that name, of the type of another value."""
        if name not in self._inputs:
            made = ir.Value(
                name=name,
                type=like.type,
                shape=like.shape if shape is None else ir.Shape(shape),
            )
            self._inputs[name] = made
            self.graph.inputs.append(made)
        return self._inputs[name]

    def constant(self, array: np.ndarray, dtype: ir.DataType | None = None) -> ir.Value:
        """An initializer of this content."""
        return constant(self.graph, ir.tensor(array, dtype=dtype))

    def stand_in(self, value: ir.Value, made: ir.Value) -> None:
        """Let `made` be read where the operators that are copied read `value`."""
        self._made[value] = made

    def value(self, value: ir.Value) -> ir.Value:
        """What stands here for a value of the other graph: a copy of its operator's, a weight.

        Raises KeyError for a value that nothing here stands for.
        """
        if value not in self._made:
            if not value.is_initializer():
                raise KeyError(str(value.name))
            self._made[value] = self._weight(value)
        return self._made[value]

    def add(
        self,
        kind: str,
        inputs: Sequence[ir.Value],
        like: ir.Value,
        shape: Sequence[int] | None,
        **attributes: int,
    ) -> ir.Value:
        """What a new operator makes: of the type of a value, and of its shape or another."""
        node = ir.node(kind, inputs, attributes)
        self.graph.append(node)
        made = node.outputs[0]
        made.type = like.type
        made.shape = like.shape if shape is None else ir.Shape(shape)
        return made

    def copy(self, node: ir.Node, inputs: Mapping[int, ir.Value] | None = None) -> None:
        """Copy an operator; `inputs` are read at these places in the place of its own."""
        given = inputs or {}
        read = [
            given[at] if at in given else None if value is None else self.value(value)
            for at, value in enumerate(node.inputs)
        ]
        outputs = [ir.Value(name=one.name, type=one.type, shape=one.shape) for one in node.outputs]
        self.graph.append(copy_of(node, read, outputs))
        self._made.update(zip(node.outputs, outputs, strict=True))

    def phase(
        self,
        name: str,
        outputs: Mapping[str, ir.Value],
        trips: int = 1,
        carried: Mapping[str, str] | None = None,
        when: str = "step",
    ) -> Phase:
        """The phase that hands out these values of the graph, by these names."""
        seen: set[ir.Value] = set()
        for output, value in outputs.items():
            own = value.producer() is not None and value not in seen
            made = value if own else self.add("Identity", [value], value, None)
            seen.add(made)
            made.name = output
            self.graph.outputs.append(made)
        model = ir.Model(self.graph, ir_version=self._model.ir_version)
        remove_unused(model)
        for value in [one for one in self.graph.inputs if not one.uses()]:
            self.graph.inputs.remove(value)
        self.graph.name = name
        name_uniquely(model, f"phase {name}")
        return Phase(name, model, trips, dict(carried or {}), when)

    def _weight(self, value: ir.Value) -> ir.Value:
        name = str(value.name)
        if name not in self.graph.initializers:
            made = ir.Value(
                name=name, type=value.type, shape=value.shape, const_value=value.const_value
            )
            self.graph.initializers.add(made)
        return self.graph.initializers[name]
