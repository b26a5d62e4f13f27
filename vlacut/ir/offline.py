"""Offline: which operators on weights run once, when a part is prepared, instead of every step.

An operator that depends only on weights gives the same result at every step. So its result can be
stored in its place, if that is small:

- it has at most `MOST_ELEMENTS` elements (a mask, the angles of a rotary embedding), or
- it has no more bytes than the weights it is made of (a transposed weight).

A result made of dequantised weights must meet the second rule, because these are small on purpose.
A stored value therefore adds at most about a mebibyte to a bundle, or the bytes of weights that
are also read as they are. A larger result is computed at every step, unless the device's compiler
folds it. An operator that draws random numbers always runs at every step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from vlacut.ir.folding import MOST_ELEMENTS
from vlacut.ir.graphs import dtype_name, node_inputs
from vlacut.tensor import dtype_bits

_RANDOM = frozenset(
    (
        "Bernoulli",
        "Dropout",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    )
)
_UNPACKING = "DequantizeLinear"
_SUBGRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


@dataclass(frozen=True)
class Origin:
    """What a value of weights alone is made of.

    Attributes:
        weights: initializers.
        nodes: operators, in order.
    """

    weights: tuple[ir.Value, ...]
    nodes: tuple[ir.Node, ...]


@dataclass(frozen=True)
class Offline:
    """The operators of a graph that depend on weights alone.

    Attributes:
        once: operators that run when a part is prepared.
        each_step: operators whose results are too large to store.
        stored: values that replace the results of `once`, with their origins.
    """

    once: frozenset[ir.Node]
    each_step: frozenset[ir.Node]
    stored: Mapping[ir.Value, Origin]


def offline(graph: ir.Graph) -> Offline:
    """Sort the weight-only operators of a graph with static shapes, by this module's rule."""
    origins = _origins(graph)
    nodes = [node for node in graph if node.outputs[0] in origins]
    once, each_step = set(nodes), set[ir.Node]()
    stored: dict[ir.Value, Origin] = {}
    for node in reversed(nodes):
        read = [value for value in node.outputs if _is_read(value, once)]
        if all(_is_small(value, origins[value]) for value in read):
            stored |= {value: origins[value] for value in read}
        else:
            once.discard(node)
            each_step.add(node)
    return Offline(frozenset(once), frozenset(each_step), dict(reversed(stored.items())))


def is_repeatable(node: ir.Node) -> bool:
    """Whether an operator gives the same result for the same operands."""
    return node.op_type not in _RANDOM


def _origins(graph: ir.Graph) -> dict[ir.Value, Origin]:
    """Every value that standard operators make of weights alone."""
    found: dict[ir.Value, Origin] = {}
    for node in graph:
        operands = node_inputs(node)
        if not _is_plain(node) or not all(v in found or v.is_initializer() for v in operands):
            continue
        behind = [found.get(value, Origin((value,), ())) for value in operands]
        weights = dict.fromkeys(weight for origin in behind for weight in origin.weights)
        nodes = dict.fromkeys(other for origin in behind for other in origin.nodes)
        origin = Origin(tuple(weights), (*nodes, node))
        found |= dict.fromkeys(node.outputs, origin)
    return found


def _is_plain(node: ir.Node) -> bool:
    bodies = any(attribute.type in _SUBGRAPHS for attribute in node.attributes.values())
    return node.domain == "" and is_repeatable(node) and not bodies


def _is_read(value: ir.Value, once: set[ir.Node]) -> bool:
    """Whether a value is read at every step."""
    return value.is_graph_output() or any(use.node not in once for use in value.uses())


def _is_small(value: ir.Value, origin: Origin) -> bool:
    if value.is_graph_output() and origin.nodes[-1].op_type == "Identity":
        return False  # it gives a weight the name of an output, and nothing else could
    nbytes = _nbytes(value)
    if nbytes is None:
        return False
    unpacked = any(node.op_type == _UNPACKING for node in origin.nodes)
    if not unpacked and _elements(value) <= MOST_ELEMENTS:
        return True
    weights = [_nbytes(weight) for weight in origin.weights]
    return None not in weights and nbytes <= sum(filter(None, weights))


def _nbytes(value: ir.Value) -> int | None:
    """Bytes of a tensor; None of what is none, or has elements that numpy knows not."""
    if value.dtype is None or value.shape is None or not value.shape.is_static():
        return None
    if not isinstance(value.type, ir.TensorType) or value.dtype not in _PLAIN:
        return None
    return _elements(value) * dtype_bits(dtype_name(value.dtype)) // 8


def _elements(value: ir.Value) -> int:
    assert value.shape is not None
    return math.prod(value.shape.numpy())


def _plain_types() -> Iterator[ir.DataType]:
    for name in ("FLOAT", "DOUBLE", "FLOAT16", "BOOL"):
        yield ir.DataType[name]
    for bits in (8, 16, 32, 64):
        yield from (ir.DataType[f"{kind}{bits}"] for kind in ("INT", "UINT"))


_PLAIN = frozenset(_plain_types())
