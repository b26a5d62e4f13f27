"""Precisions by side: what runs on the edge in one, what runs in the cloud in another.

Which side a product is on is known once the program is cut, and the cut depends on what products
take in their side's precision. So the program is cut twice. The first time it is the one that is
rounded for the edge, and its operators have the edge's seconds from there, and the cloud's from the
program that is rounded for the cloud. That says where products are best. Then each is pinned to
its side, rounded as that has it, and the rest is cut anew, at the price of what now is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import onnx_ir as ir

from vlacut.compiler.precision_list import BySide
from vlacut.compiler.rounding_options import quick_rounding
from vlacut.hardware import Side
from vlacut.ir.annotation import CUTS, PINNED, SECONDS, Seconds
from vlacut.ir.dataflow import cuts_of, trace_dataflow
from vlacut.ir.graphs import operators
from vlacut.ir.pipeline import Pass, Pipeline, Timing, parse_pipeline
from vlacut.ir.program import Program, copied

_PRODUCTS = ("MatMul", "Gemm", "Conv")
_CUTS, _POOL = "partition", "alternatives"

Places = Mapping[tuple[int, str], Side]  # of products, by phase and by the operator's name


def rounded_by_side(
    program: Program, wanted: BySide, after: Pipeline
) -> tuple[Program, tuple[Timing, ...]]:
    """A program in the precision of each side, annotated and cut; its variant is one, not a pool.

    Args:
        program: in no precision, before `annotate-structure`; it stays as it is.
        wanted: the passes of each side.
        after: what annotates and cuts.

    Raises what the passes raise.
    """
    cut = [one for one in after.passes if one.name == _CUTS]
    before = tuple(one for one in after.passes if one.name not in (_CUTS, _POOL))
    first, timings = _priced(program, wanted.edge, before)
    cloud, spent = _priced(program, wanted.cloud, before)
    names = [{str(node.name) for node in phase.model.graph} for phase in program.phases]
    _take_cloud_seconds(first, cloud, names)
    timings += spent + Pipeline(tuple(cut)).run(first)
    made = _pinned(program, _places(first, names))
    passes = [
        _of_side(one, side)
        for side, text in ((Side.EDGE, wanted.edge), (Side.CLOUD, wanted.cloud))
        for one in parse_pipeline(text).passes
    ]
    timings += Pipeline((*passes, *before, *cut)).run(made)
    return made, timings


def _priced(
    program: Program, text: str, before: Iterable[Pass]
) -> tuple[Program, tuple[Timing, ...]]:
    """A copy in a precision, rounded to the nearest, with its seconds."""
    made = copied(program)
    CUTS.drop(made)
    passes = [quick_rounding(one) for one in parse_pipeline(text).passes]
    return made, Pipeline((*passes, *before)).run(made)


def _of_side(one: Pass, side: Side) -> Pass:
    return replace(one, side=side.value)  # type: ignore[type-var]


def _root(name: str, known: Iterable[str]) -> str:
    """The operator of the program that one of its rounded copy stands for; empty for none."""
    while name not in known:
        name, dot, _ = name.rpartition(".")
        if not dot:
            return ""
    return name


def _take_cloud_seconds(first: Program, cloud: Program, names: list[set[str]]) -> None:
    """What an operator becomes takes as long in the cloud as what it becomes in the other copy."""
    for here, there, known in zip(first.phases, cloud.phases, names, strict=True):
        spent: dict[str, float] = {}
        for node in operators(there.model.graph):
            root = _root(str(node.name), known)
            spent[root] = spent.get(root, 0.0) + SECONDS.get(node).cloud
        for node in operators(here.model.graph):
            name = str(node.name)
            if _root(name, known):
                took = spent.get(name, 0.0)  # what stands around it takes none of its own
                SECONDS.put(node, Seconds(SECONDS.get(node).edge, took))


def _places(program: Program, names: list[set[str]]) -> Places:
    """Where the cut has its products."""
    dataflow = trace_dataflow(program)
    found: dict[tuple[int, str], Side] = {}
    sides = cuts_of(dataflow).chosen.sides
    for node, phase, side in zip(dataflow.nodes, dataflow.phases, sides, strict=True):
        if node is not None and (node.op_type in _PRODUCTS or _is_embedding(node)):
            found[phase, _root(str(node.name), names[phase])] = side
    return found


def _is_embedding(node: ir.Node) -> bool:
    """Whether it reads rows of a weight, or of what is made of its codes."""
    table = node.inputs[0] if node.op_type == "Gather" else None
    maker = table.producer() if table is not None else None
    return table is not None and (
        table.is_initializer() or (maker is not None and maker.op_type == "DequantizeLinear")
    )


def _pinned(program: Program, places: Places) -> Program:
    """A copy whose products are pinned."""
    made = copied(program)
    CUTS.drop(made)
    for index, phase in enumerate(made.phases):
        for node in phase.model.graph:
            side = places.get((index, str(node.name)))
            if side is not None:
                PINNED.put(node, side)
    return made
