"""Stages: encoder, backbone or decoder.

The backbone is the run of repeated blocks with the most bytes of weights, over all phases. The
encoder is before it, and the decoder behind it. In phases that hold a part of the backbone,
dataflow within the phase decides; so the head belongs to the decoder and the embedding to the
encoder, where one token becomes the next. In other phases, dataflow from phase to phase decides.
Operators between parts of the backbone belong to it. An operator neither before nor behind it goes
with what it feeds: to the decoder if that depends on it, else to the encoder. The blocks of a run
have one stage, that of most of their operators. Without any run, everything is backbone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import onnx_ir as ir

from vlacut.ir.graphs import node_inputs
from vlacut.ir.program import Program
from vlacut_passes.structure.view import Spot, View

ENCODER, BACKBONE, DECODER = "encoder", "backbone", "decoder"


def stages(
    program: Program, views: Sequence[View], spots: Mapping[ir.Node, Spot]
) -> dict[ir.Node, str]:
    """Stage of every operator."""
    backbone = _heaviest(views, spots)
    if not backbone:
        return dict.fromkeys(spots, BACKBONE)
    core = {node for node, spot in spots.items() if spot.run == backbone}
    flow = _Flow(program, views, core)
    found = {
        node: flow.stage(index, node) for index, view in enumerate(views) for node in view.nodes
    }
    _with_what_they_feed(views, found)
    votes: dict[str, Counter[str]] = {}
    for node, spot in spots.items():
        if spot.run:
            votes.setdefault(spot.run, Counter())[found[node]] += 1
    common = {run: count.most_common(1)[0][0] for run, count in votes.items()}
    return {node: common.get(spots[node].run, stage) for node, stage in found.items()}


def _heaviest(views: Sequence[View], spots: Mapping[ir.Node, Spot]) -> str:
    """The run with the most bytes of weights, the first of equals; empty if there is none."""
    held: dict[str, dict[str, int]] = {}
    for view in views:
        for node in view.nodes:
            if spots[node].run:
                read = {weight.name: weight.nbytes for weight in view.weights.get(node, ())}
                held.setdefault(spots[node].run, {}).update(read)
    return max(held, key=lambda run: sum(held[run].values()), default="")


class _Flow:
    """What is before the backbone and what behind it."""

    def __init__(self, program: Program, views: Sequence[View], core: set[ir.Node]) -> None:
        self._core = core
        self._holds = [any(node in core for node in view.nodes) for view in views]
        self._first = self._holds.index(True)
        self._behind: set[ir.Node] = set()
        self._before: set[ir.Node] = set()
        sources = [_sources(program, views, index) for index in range(len(views))]
        for index, view in enumerate(views):
            self._forward(view, {} if self._holds[index] else sources[index])
        feeds: set[ir.Node] = set()
        for index in range(len(views) - 1, -1, -1):
            self._backward(views[index], feeds, sources[index])

    def stage(self, phase: int, node: ir.Node) -> str:
        """The stage; empty where dataflow says nothing."""
        before, behind = node in self._before, node in self._behind
        if node in self._core or (before and behind and self._holds[phase]):
            return BACKBONE
        if behind:
            return DECODER
        if before or phase < self._first:
            return ENCODER
        return ""

    def _forward(self, view: View, sources: Mapping[ir.Value, ir.Node]) -> None:
        for node in view.nodes:
            makers = [*view.producers[node]]
            makers += [sources[value] for value in node_inputs(node) if value in sources]
            if any(maker in self._core or maker in self._behind for maker in makers):
                self._behind.add(node)

    def _backward(
        self, view: View, feeds: set[ir.Node], sources: Mapping[ir.Value, ir.Node]
    ) -> None:
        """Mark what leads to the backbone; `feeds` are makers of later phases' inputs that do."""
        inside = {node for node in view.nodes if node in self._core}
        for node in reversed(view.nodes):
            readers = view.consumers[node]
            leads = any(item in self._core or item in self._before for item in readers)
            if leads or (node in feeds and not (inside and node in self._behind)):
                self._before.add(node)
            if node in self._core or node in self._before:
                feeds.update(sources[value] for value in node_inputs(node) if value in sources)


def _sources(program: Program, views: Sequence[View], phase: int) -> dict[ir.Value, ir.Node]:
    """By input of a phase: the operator of an earlier phase that makes it."""
    found = {}
    for value in views[phase].phase.model.graph.inputs:
        source = program.source(phase, str(value.name))
        if source.phase is not None:
            outputs = program.phases[source.phase].model.graph.outputs
            maker = next(item for item in outputs if item.name == source.name).producer()
            if maker is not None:
                found[value] = maker
    return found


def _with_what_they_feed(views: Sequence[View], found: dict[ir.Node, str]) -> None:
    for view in views:
        for node in reversed(view.nodes):
            if not found[node]:
                fed = {found[item] for item in view.consumers[node]}
                found[node] = DECODER if DECODER in fed else ""
        for node in view.nodes:
            found[node] = found[node] or ENCODER
