"""Mixed precision: weights and products in 16 bits, unsafe operators in float32, casts between.

Observation and action keep their types, so the robot's interface does not change with the
precision. An output that is fed back into an input of the observation keeps its type too, so a
sampler's state is summed in its own type. Everything else that crosses the link is in 16 bits.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir

from vlacut.errors import PassError
from vlacut.ir.graphs import dtype_name
from vlacut.ir.program import Program
from vlacut.ir.rewriting import constant, is_named_by_content, remove_unused, replace_value
from vlacut_passes.types.ports import Port, kept_ports
from vlacut_passes.types.unsafe import unsafe_operators
from vlacut_passes.types.values import convert, converted, saturated, set_type_attributes

_ANY_TYPE = frozenset({"Cast", "CastLike", "Shape", "Size"})  # read what they are given
_FLOAT = ir.DataType.FLOAT


def mix_precision(program: Program, source: ir.DataType, target: ir.DataType) -> None:
    """Turn values of `source` into `target` where that is safe, into float32 elsewhere, in place.

    Raises PassError for an operator with subgraphs, into which this does not look.
    """
    kept = kept_ports(program)
    phases = [
        _Phase(phase.name, phase.model, index, kept, source, target)
        for index, phase in enumerate(program.phases)
    ]
    wanted: dict[str, set[ir.DataType]] = {}
    for phase in phases:
        for name, types in phase.weight_types().items():
            wanted.setdefault(name, set()).update(types)
    for phase in phases:
        phase.rewrite(wanted)


class _Phase:
    """One phase on its way: which operators are in float32, and which type every value gets."""

    def __init__(
        self,
        name: str,
        model: ir.Model,
        index: int,
        kept: set[Port],
        source: ir.DataType,
        target: ir.DataType,
    ) -> None:
        self._model, self._graph = model, model.graph
        self._source, self._target = source, target
        self._inputs = {v for v in self._graph.inputs if (index, "in", v.name) in kept}
        self._outputs = {v for v in self._graph.outputs if (index, "out", v.name) in kept}
        self._casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self._original = {value: value.const_value for value in self._graph.initializers.values()}
        _check_flat(name, self._graph)
        self._exact = {
            node
            for node in unsafe_operators(self._graph, self._outputs)
            if any(value.dtype == source for value in _values(node))
        }
        self._exact.update(node for node in self._graph if self._lacks_type(node))

    def _lacks_type(self, node: ir.Node) -> bool:
        """Whether ONNX has this operator in the source's type, or float32, but not the target's."""
        opset = self._graph.opset_imports.get(node.domain, 0)
        if node.domain != "" or not onnx.defs.has(node.op_type, opset):
            return False
        schema = onnx.defs.get_schema(node.op_type, opset)
        text = f"tensor({self._target.name.lower()})"
        formals = [*zip(node.inputs, schema.inputs, strict=False)]
        formals += [*zip(node.outputs, schema.outputs, strict=False)]
        return any(
            value is not None and value.dtype == self._source and text not in formal.types
            for value, formal in formals
        )

    def _type_for(self, node: ir.Node) -> ir.DataType:
        return _FLOAT if node in self._exact else self._target

    def _uses(self) -> Iterator[tuple[ir.Node, int, ir.Value]]:
        """Every read of a value of the source's type that wants one type."""
        for node in self._graph:
            for index, value in enumerate(node.inputs):
                if value is not None and value.dtype == self._source:
                    if node.domain == "" and node.op_type in _ANY_TYPE:
                        continue
                    yield node, index, value

    def weight_types(self) -> dict[str, set[ir.DataType]]:
        """The types in which the weights are read, by name."""
        found: dict[str, set[ir.DataType]] = {}
        for node, _, value in self._uses():
            if value.is_initializer():
                found.setdefault(str(value.name), set()).add(self._type_for(node))
        return found

    def rewrite(self, wanted: dict[str, set[ir.DataType]]) -> None:
        """Give every value its type, and cast where a reader wants another."""
        uses = list(self._uses())
        ends = [
            (value, self._source if value in self._outputs else self._target)
            for value in self._graph.outputs
            if value.dtype == self._source
        ]
        self._retype(wanted)
        for node, index, value in uses:
            node.replace_input_with(index, self._as(value, self._type_for(node), node))
        for value, dtype in ends:
            self._end_as(value, dtype)
        _drop_casts_to_the_same(self._graph)
        remove_unused(self._model)

    def _retype(self, wanted: dict[str, set[ir.DataType]]) -> None:
        for value in self._graph.inputs:
            if value.dtype == self._source and value not in self._inputs:
                value.type = ir.TensorType(self._target)
        for value in list(self._graph.initializers.values()):
            if value.dtype == self._source and not is_named_by_content(value):
                types = wanted.get(str(value.name), {self._target})
                convert(value, self._target if self._target in types else _FLOAT)
        for node in list(self._graph):
            dtype = self._type_for(node)
            set_type_attributes(node, self._source, dtype)
            if (node.domain, node.op_type) == ("", "Attention"):
                node.attributes["softmax_precision"] = ir.AttrInt64(
                    "softmax_precision", int(_FLOAT)
                )
            for value in node.outputs:
                if value.dtype == self._source:
                    value.type = ir.TensorType(dtype)

    def _as(self, value: ir.Value, dtype: ir.DataType, reader: ir.Node) -> ir.Value:
        """The value in a type: itself, its weight in that type, or one cast for all readers."""
        if value.dtype == dtype:
            return value
        if (value, dtype) not in self._casts:
            tensor = self._original.get(value)
            if tensor is None:  # no weight, or one traced on shapes: cast when it is read
                made = self._cast(value, dtype, value.producer() or reader)
            elif is_named_by_content(value):
                made = constant(self._graph, ir.tensor(saturated(tensor.numpy(), dtype)))
            else:
                made = self._weight_as(value, tensor, dtype)
            self._casts[value, dtype] = made
        return self._casts[value, dtype]

    def _weight_as(
        self, value: ir.Value, tensor: ir.TensorProtocol, dtype: ir.DataType
    ) -> ir.Value:
        name = f"{value.name}.{dtype_name(dtype)}"
        made = ir.Value(name=name, shape=value.shape, type=ir.TensorType(dtype))
        made.const_value = converted(tensor, dtype, name)
        self._graph.initializers.add(made)
        return made

    def _cast(self, value: ir.Value, dtype: ir.DataType, like: ir.Node) -> ir.Value:
        node = ir.node(
            "Cast", [value], {"to": int(dtype)}, name=f"{value.name}.{dtype_name(dtype)}"
        )
        node.metadata_props.update(like.metadata_props)
        made = node.outputs[0]
        made.name, made.shape, made.type = node.name, value.shape, ir.TensorType(dtype)
        maker = value.producer()
        if maker is not None:
            self._graph.insert_after(maker, node)
        else:
            self._graph.insert_before(self._graph[0], node)
        return made

    def _end_as(self, value: ir.Value, dtype: ir.DataType) -> None:
        """Hand an output out in its type, under its name."""
        maker = value.producer()
        if maker is None or value.dtype == dtype:
            return
        made = self._cast(value, dtype, maker)
        made.name, value.name = value.name, f"{value.name}.uncast"
        for index, output in enumerate(self._graph.outputs):
            if output is value:
                self._graph.outputs[index] = made


def _check_flat(name: str, graph: ir.Graph) -> None:
    kinds = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    for node in graph:
        if any(attribute.type in kinds for attribute in node.attributes.values()):
            raise PassError(
                f"phase {name}: {node.op_type} {node.name} has a graph of its own, into which "
                f"mixed precision does not look; convert with keep=nothing, or unroll it"
            )


def _values(node: ir.Node) -> Iterator[ir.Value]:
    yield from (value for value in node.inputs if value is not None)
    yield from node.outputs


def _drop_casts_to_the_same(graph: ir.Graph) -> None:
    for node in list(graph):
        given = node.inputs[0] if node.op_type == "Cast" and node.domain == "" else None
        if given is None or given.dtype != node.outputs[0].dtype:
            continue
        if not node.outputs[0].is_graph_output():
            replace_value(node.outputs[0], given)
