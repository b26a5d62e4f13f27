"""Batched parts: for several robots at once, as the pass `pack` makes one graph of theirs.

Every part of the cloud is laid beside itself, once for each robot, and packed: what reads one
weight runs once, over the rows of all. A part in which nothing is joined has no batches, and
neither has one with a graph inside an operator.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import onnx_ir as ir

from vlacut import registry
from vlacut.errors import InputError
from vlacut.hardware import Side
from vlacut.ir.annotation import SECONDS
from vlacut.ir.extracting import Extract
from vlacut.ir.graphs import operators, strip, value_spec
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Program
from vlacut.plans.batch import Batch, batch_name, slot
from vlacut.plans.plan import Part

_PRODUCTS = ("MatMul", "Gemm")
_SUBGRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def check_back_end(backend: str) -> None:
    """Raise InputError if the cloud's back end builds engines later, one for each part."""
    if backend in registry.names("engine_builders"):
        raise InputError(
            f"--batch: the back end {backend} builds engines of single parts on the device; leave "
            f"--batch out, or take another --backend for the cloud"
        )


def batched(
    parts: Sequence[Part], models: Sequence[ir.Model], sizes: Sequence[int], edge: str, cloud: str
) -> tuple[tuple[Part, ...], dict[str, ir.Model]]:
    """The parts with their batches, and the models of these by name.

    Args:
        parts: of a plan.
        models: of each; they are read before a back end makes them ready.
        sizes: robots at once.
        edge: device of that side, which the cost model wants to know.
        cloud: device whose model says how long a batch takes.
    """
    found: dict[str, ir.Model] = {}
    return tuple(
        replace(part, batches=tuple(_batches(part, model, sizes, edge, cloud, found)))
        if part.side is Side.CLOUD
        else part
        for part, model in zip(parts, models, strict=True)
    ), found


def _batches(
    part: Part,
    model: ir.Model,
    sizes: Sequence[int],
    edge: str,
    cloud: str,
    found: dict[str, ir.Model],
) -> Iterator[Batch]:
    nodes = operators(model.graph)
    inner = (one for node in nodes for one in node.attributes.values())
    if any(one.type in _SUBGRAPHS for one in inner):
        return
    alone = _products(model)
    for size in sizes:
        program = _beside_each_other(part, model, size)
        parse_pipeline(f"pack,annotate-cost{{edge={edge} cloud={cloud}}}").run(program)
        made = program.phases[0].model
        if _products(made) >= size * alone:
            return
        seconds = sum(SECONDS.get(node).cloud for node in operators(made.graph))
        found[batch_name(part.name, size)] = _plain(made)
        yield Batch(size, seconds)


def _beside_each_other(part: Part, model: ir.Model, robots: int) -> Program:
    """A part as often as there are robots, in one phase."""
    made = Extract(model)
    outputs: dict[str, ir.Value] = {}
    for number in range(robots):
        for value in model.graph.inputs:
            made.stand_in(value, made.input(slot(str(value.name), number), value))
        for node in model.graph:
            made.copy(node)
        for value in model.graph.outputs:
            outputs[slot(str(value.name), number)] = made.value(value)
    name = part.phase
    while any(output.startswith(f"{name}/") for output in (*outputs, *part.inputs)):
        name += "_"  # a program's inputs are named like no phase of it
    phase = made.phase(name, outputs)
    graph = phase.model.graph
    read = tuple(map(value_spec, graph.inputs))
    return Program(part.name, (phase,), read, tuple(map(value_spec, graph.outputs)))


def _products(model: ir.Model) -> int:
    """Products with weights that a run of a model has."""
    return sum(
        node.op_type in _PRODUCTS and _is_weight(node.inputs[1]) for node in operators(model.graph)
    )


def _is_weight(value: ir.Value | None) -> bool:
    """Whether a value is a weight, or made of weights alone."""
    if value is None or value.is_initializer():
        return value is not None
    maker = value.producer()
    return maker is not None and all(map(_is_weight, maker.inputs))


def _plain(model: ir.Model) -> ir.Model:
    """A model without what passes left on it."""
    for node in model.graph:
        strip(node)
    return model
