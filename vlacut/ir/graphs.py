"""Questions that passes, split and printer ask of an onnx_ir graph."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from vlacut.tensor import TensorSpec

_NUMPY_NAMES = {"float": "float32", "double": "float64"}
_INTEGERS = frozenset([int])  # the types of a static shape's dimensions
_GRAPH, _GRAPHS = ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS
_NAMES = {dtype: _NUMPY_NAMES.get(dtype.name.lower(), dtype.name.lower()) for dtype in ir.DataType}


def dtype_name(dtype: ir.DataType) -> str:
    """The name `TensorSpec` uses for an ONNX element type."""
    return _NAMES[dtype]


def value_spec(value: ir.Value, name: str | None = None) -> TensorSpec:
    """Spec of a value, under its own name or another.

    Raises ValueError if its type is unknown, its shape not static, or its elements no numbers.
    """
    dtype, shape = value.dtype, value.shape
    dims = None if shape is None else tuple(shape)
    if dtype is None or dims is None or not _INTEGERS.issuperset(map(type, dims)):
        raise ValueError(f"{value.name}: type {dtype}, shape {shape} is not static")
    return TensorSpec(name or str(value.name), _NAMES[dtype], dims)  # type: ignore[arg-type]


ACTIVATIONS = "activations"
"""The property of a product of weights in 4 bits whose activations no executor may round: `float`.
It goes with the product into its part, since nothing in ONNX says it."""


def strip(node: ir.Node) -> None:
    """Drop what front ends left on an operator and on what it makes; `ACTIVATIONS` stays."""
    kept = node.metadata_props.get(ACTIVATIONS)
    node.metadata_props.clear()
    if kept is not None:
        node.metadata_props[ACTIVATIONS] = kept
    for value in node.outputs:
        value.metadata_props.clear()


def node_inputs(node: ir.Node) -> tuple[ir.Value, ...]:
    """Values a node reads, each once: its own inputs, then those its subgraphs capture."""
    found = dict.fromkeys(value for value in node.inputs if value is not None)
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
        kind = attribute.type
        if kind is _GRAPH:
            yield attribute.as_graph()
        elif kind is _GRAPHS:
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


def weights_read(graph: ir.Graph) -> dict[ir.Node, tuple[str, ...]]:
    """Initializers that every operator reads, itself or through weight-only nodes, sorted.

    Operators are those of `operators`; a node behind another operator is not looked at.
    """
    live = set(operators(graph))
    behind: dict[ir.Value, frozenset[str]] = {}
    read: dict[ir.Node, tuple[str, ...]] = {}
    for node in graph:
        names: set[str] = set()
        for value in node_inputs(node):
            if value.is_initializer():
                names.add(str(value.name))
            names |= behind.get(value, frozenset())
        if node in live:
            read[node] = tuple(sorted(names))
        else:
            behind.update(dict.fromkeys(node.outputs, frozenset(names)))
    return read
