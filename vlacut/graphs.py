"""Questions that passes, split and printer ask of an onnx_ir graph."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from vlacut.tensor import TensorSpec

_NUMPY_NAMES = {"float": "float32", "double": "float64"}


def dtype_name(dtype: ir.DataType) -> str:
    """The name `TensorSpec` uses for an ONNX element type."""
    return _NUMPY_NAMES.get(dtype.name.lower(), dtype.name.lower())


def value_spec(value: ir.Value, name: str | None = None) -> TensorSpec:
    """Spec of a value, under its own name or another.

    Raises ValueError if its type is unknown, its shape not static, or its elements no numbers.
    """
    if value.dtype is None or value.shape is None or not value.shape.is_static():
        raise ValueError(f"{value.name}: type {value.dtype}, shape {value.shape} is not static")
    shape = tuple(int(str(dim)) for dim in value.shape)
    return TensorSpec(name or str(value.name), dtype_name(value.dtype), shape)


def node_inputs(node: ir.Node) -> tuple[ir.Value, ...]:
    """Values a node reads, each once: its own inputs, then those its subgraphs capture."""
    found = {value: None for value in node.inputs if value is not None}
    for subgraph in _subgraphs(node):
        inside = set(subgraph.inputs) | set(subgraph.initializers.values())
        for inner in subgraph:
            captured = (value for value in node_inputs(inner) if value not in inside)
            found.update(dict.fromkeys(captured))
            inside.update(inner.outputs)
        found.update(dict.fromkeys(value for value in subgraph.outputs if value not in inside))
    return tuple(found)


def _subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def operators(graph: ir.Graph) -> tuple[ir.Node, ...]:
    """The operators a control step must run, in order.

    These are the nodes that depend on an input of the graph, and those that make an output. The
    others depend on weights alone: whoever reads them can compute them where it is.
    """
    live = set(graph.inputs)
    outputs = set(graph.outputs)
    found = []
    for node in graph:
        if live.intersection(node_inputs(node)) or outputs.intersection(node.outputs):
            live.update(node.outputs)
            found.append(node)
    return tuple(found)


def weight_names(node: ir.Node) -> tuple[str, ...]:
    """Initializers a node reads, itself or through nodes that depend on weights alone, sorted.

    Walks back over weight-only nodes; stops at anything an input of the graph leads to.
    """
    return tuple(sorted({str(value.name) for value in _weights(node, {})}))


def _weights(node: ir.Node, seen: dict[ir.Node, None]) -> Iterator[ir.Value]:
    for value in node_inputs(node):
        maker = value.producer()
        if value.is_initializer():
            yield value
        elif maker is not None and maker not in seen and is_weight_only(maker):
            seen[maker] = None
            yield from _weights(maker, seen)


def is_weight_only(node: ir.Node) -> bool:
    """Whether a node depends on weights and constants alone."""
    stack, seen = [node], {node}
    while stack:
        for value in node_inputs(stack.pop()):
            if value.is_graph_input() and not value.is_initializer():
                return False
            maker = value.producer()
            if maker is not None and maker not in seen:
                seen.add(maker)
                stack.append(maker)
    return True
