"""A phase's graph as structure is read off it: operators in order, and the weights each reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from vlacut.ir.graphs import node_inputs, value_spec
from vlacut.ir.program import Phase

_NO_PARAMETERS = ("bool", "int32", "int64")  # shapes, indices and masks


@dataclass(frozen=True)
class Weight:
    """A parameter: a float or quantised initializer of more than one element, or what folded
    operators make of nothing.
    """

    name: str
    shape: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True)
class View:
    """A phase as structure is read off it.

    Attributes:
        phase: the phase.
        nodes: operators that depend on an input, in order.
        folded: operators that depend on weights alone, last first.
        weights: parameters that an operator reads, itself or through folded ones; for the
            operators that read any.
        producers: operators whose values an operator or its subgraphs read.
        consumers: the converse.
    """

    phase: Phase
    nodes: tuple[ir.Node, ...]
    folded: tuple[ir.Node, ...]
    weights: Mapping[ir.Node, tuple[Weight, ...]]
    producers: Mapping[ir.Node, tuple[ir.Node, ...]]
    consumers: Mapping[ir.Node, tuple[ir.Node, ...]]


@dataclass(frozen=True)
class Spot:
    """Where an operator is.

    Attributes:
        block: dotted path of its repeated block, or of its module.
        place: dotted path inside the block; empty outside of repeated blocks.
        run: path of the list that the block is an entry of; empty outside of repeated blocks.
    """

    block: str
    place: str = ""
    run: str = ""


def look(phase: Phase) -> View:
    """The view of a phase. Raises ValueError for a shape that is not static."""
    graph = phase.model.graph
    through: dict[ir.Value, tuple[Weight, ...]] = {
        value: _parameter(value) for value in graph.initializers.values()
    }
    nodes, folded, weights = [], [], {}
    makers: dict[ir.Node, tuple[ir.Node, ...]] = {}
    readers: dict[ir.Node, list[ir.Node]] = {}
    for node in graph:
        inputs = node_inputs(node)
        of_inputs = (value.producer() for value in inputs)
        makers[node] = tuple(dict.fromkeys(maker for maker in of_inputs if maker is not None))
        readers[node] = []
        for maker in makers[node]:
            readers[maker].append(node)
        found = dict.fromkeys(weight for value in inputs for weight in through.get(value, ()))
        if all(value in through for value in inputs):
            folded.append(node)
            through.update({made: tuple(found) or _parameter(made) for made in node.outputs})
        else:
            nodes.append(node)
            if found:
                weights[node] = tuple(found)
    consumers = {node: tuple(found) for node, found in readers.items()}
    return View(phase, tuple(nodes), tuple(reversed(folded)), weights, makers, consumers)


def _parameter(value: ir.Value) -> tuple[Weight, ...]:
    """The value as a weight; empty if it is a number, a shape, indices or a mask."""
    if not value.name or (value.shape is None and not value.uses()):
        return ()
    spec = value_spec(value)
    if len(spec.shape) == 0 or spec.nbytes <= 8 or spec.dtype in _NO_PARAMETERS:
        return ()
    return (Weight(spec.name, spec.shape, spec.nbytes),)
