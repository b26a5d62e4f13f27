"""Split: carries a cut out. Sides on the operators in, parts and their schedule out.

Within a phase, operators go to *levels*: the level of an operator is the number of changes of side
on the longest chain that leads to it, even levels on the edge and odd ones in the cloud. What is on
one level of a phase is one part: a path between two of its operators cannot leave the level, so
parts are convex, and running them level by level meets every dependency.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import onnx_ir as ir

from vlacut.annotation import SECONDS, SIDE, STRUCTURE
from vlacut.dataflow import Dataflow, Use, key_of
from vlacut.fingerprint import fingerprint
from vlacut.graphs import node_inputs, value_spec
from vlacut.hardware import Link
from vlacut.plan import Instruction, Part
from vlacut.pricing import Side, When, price
from vlacut.program import Phase, Program
from vlacut.schedule import make_schedule
from vlacut.tensor import TensorSpec


@dataclass(frozen=True)
class Split:
    """What a cut comes to.

    Attributes:
        parts: in the order of the schedule.
        models: the operators of every part, in the same order. Inputs and outputs are named by
            their keys; weights are shared with the program, by reference.
        schedule: for both sides.
        tensors: spec of every key in the schedule.
    """

    parts: tuple[Part, ...]
    models: tuple[ir.Model, ...]
    schedule: tuple[Instruction, ...]
    tensors: tuple[TensorSpec, ...]


def split(flow: Dataflow, link: Link) -> Split:
    """Split a program by the sides that `partition` wrote on its operators.

    The link prices what moving a part would cost. Needs `annotate-cost` and `partition`.
    """
    cut = _Cut(flow, link)
    program = flow.program
    borders = [_border(cut, phase, level, tasks) for (phase, level), tasks in cut.levels.items()]
    parts = tuple(_part(cut, border) for border in borders)
    return Split(
        parts,
        tuple(extract(program.phases[border.phase], border) for border in borders),
        make_schedule(cut.flow, cut.sides, parts),
        tuple(_specs(program, borders).values()),
    )


class _Cut:
    """A dataflow with its sides, and what the parts are read off."""

    def __init__(self, flow: Dataflow, link: Link) -> None:
        self.flow = flow
        self.program = flow.program
        self.sides = sides_of(flow)
        self.costs = flow.cost_graph()
        self.link = link
        self.total_s = price(self.costs, self.sides, link).total_s
        self.task = {node: task for task, node in enumerate(flow.nodes) if node is not None}

    @cached_property
    def levels(self) -> Mapping[tuple[int, int], list[int]]:
        """Tasks by (phase, level), in order."""
        level = [int(side is Side.CLOUD) for side in self.sides]
        for use in self.flow.uses:
            if use.when is When.WITHIN:
                change = self.sides[use.producer] is not self.sides[use.consumer]
                level[use.consumer] = max(level[use.consumer], level[use.producer] + change)
        found: dict[tuple[int, int], list[int]] = {}
        for task in range(1, len(level) - 1):
            found.setdefault((self.flow.phases[task], level[task]), []).append(task)
        return dict(sorted(found.items()))

    @cached_property
    def readers(self) -> Mapping[str, Sequence[Use]]:
        """Uses by key."""
        found: dict[str, list[Use]] = {}
        for use in self.flow.uses:
            found.setdefault(use.key, []).append(use)
        return found

    def saves_s(self, tasks: Iterable[int]) -> float:
        """What moving these tasks to the other side would add to a control step."""
        sides = list(self.sides)
        for task in tasks:
            sides[task] = sides[task].other
        return price(self.costs, sides, self.link).total_s - self.total_s

    def node(self, task: int) -> ir.Node:
        """The operator of a task that is neither the observation nor the action."""
        node = self.flow.nodes[task]
        assert node is not None
        return node


def sides_of(flow: Dataflow) -> tuple[Side, ...]:
    """The side of every task, as `partition` wrote it."""
    return tuple(SIDE.get(node) if node else Side.EDGE for node in flow.nodes)


@dataclass(frozen=True)
class Border:
    """A part's tasks, and the values that enter and leave it, with their keys."""

    phase: int
    level: int
    tasks: tuple[int, ...]
    inputs: Mapping[ir.Value, str]
    outputs: Mapping[ir.Value, str]


def _border(cut: _Cut, phase: int, level: int, tasks: Sequence[int]) -> Border:
    inside = set(tasks)
    nodes = [cut.node(task) for task in tasks]
    inputs = {
        value: key
        for node in nodes
        for value in node_inputs(node)
        if (key := _entering(cut, phase, value, inside)) is not None
    }
    name = cut.program.phases[phase].name
    outputs = {
        value: key
        for node in nodes
        for value in node.outputs
        if _leaves(cut.readers.get(key := f"{name}/{value.name}", ()), inside)
    }
    return Border(phase, level, tuple(tasks), inputs, outputs)


def _entering(cut: _Cut, phase: int, value: ir.Value, inside: set[int]) -> str | None:
    """Key of a value that enters a part; None if it is made inside, or of weights alone."""
    name = f"{cut.program.phases[phase].name}/{value.name}"
    maker = value.producer()
    if maker is not None:
        task = cut.task.get(maker)
        return None if task is None or task in inside else name
    if value.is_initializer():
        return None
    if cut.program.carried_output(phase, str(value.name)) is not None:
        return name  # a move gives it this name, first the initial value, then the carried one
    return key_of(cut.program, cut.program.source(phase, str(value.name)))


def _leaves(uses: Iterable[Use], inside: set[int]) -> bool:
    return any(use.when is not When.WITHIN or use.consumer not in inside for use in uses)


def _part(cut: _Cut, border: Border) -> Part:
    phase = cut.program.phases[border.phase]
    nodes = [cut.node(task) for task in border.tasks]
    side = cut.sides[border.tasks[0]]
    seconds = [SECONDS.get(node) for node in nodes]
    weights = {name for node in nodes for name in cut.flow.weights[node]}
    initializers = phase.graph.graph.initializers
    return Part(
        name=f"{phase.name}.{border.level}",
        phase=phase.name,
        side=side,
        inputs=tuple(border.inputs.values()),
        outputs=tuple(border.outputs.values()),
        weights=tuple(sorted(weights)),
        weight_bytes=sum(value_spec(initializers[name]).nbytes for name in weights),
        seconds=sum(time.edge if side is Side.EDGE else time.cloud for time in seconds),
        saves_s=cut.saves_s(border.tasks),
        label=label(nodes, phase.name),
        digest=fingerprint(nodes),
    )


def _specs(program: Program, borders: Iterable[Border]) -> dict[str, TensorSpec]:
    specs = {spec.name: spec for spec in program.inputs}
    for border in borders:
        for value, key in (*border.inputs.items(), *border.outputs.items()):
            specs.setdefault(key, value_spec(value, key))
    return specs


def extract(phase: Phase, border: Border) -> ir.Model:
    """The operators of a part as a model of its own, with the weight-only operators they read."""
    graph = ir.convenience.extract(
        phase.graph.graph, inputs=tuple(border.inputs), outputs=tuple(border.outputs)
    )
    return _named(phase, graph, border.inputs.values(), border.outputs.values())


def whole(phase: Phase, inputs: Sequence[str]) -> ir.Model:
    """A phase uncut, its inputs named by these keys and its outputs `phase/name`."""
    outputs = [f"{phase.name}/{name}" for name in phase.output_names]
    return _named(phase, phase.graph.graph.clone(), inputs, outputs)


def _named(
    phase: Phase, graph: ir.Graph, inputs: Iterable[str], outputs: Iterable[str]
) -> ir.Model:
    for value, key in zip(graph.inputs, inputs, strict=True):
        value.name = key
    for value, key in zip(graph.outputs, outputs, strict=True):
        value.name = key
    for node in graph:
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    graph.name = phase.name
    return ir.Model(graph, ir_version=phase.graph.ir_version)


def label(nodes: Iterable[ir.Node], phase: str) -> str:
    """What of the model some operators are: runs of repeated blocks, and what is outside of them.

    A block goes by the last two parts of its path and its number; what is outside by the first part
    of its path, and not if a block named has that too.
    """
    runs: dict[str, list[int]] = {}
    others: dict[str, None] = {}
    for node in nodes:
        found = STRUCTURE.find(node)
        if found is None or found.block.partition(".")[0] == phase:
            continue  # outside of every module: it has no better name than its phase
        stem, _, number = found.block.rpartition(".")
        if number.isdigit():
            runs.setdefault(stem, []).append(int(number))
        else:
            others[found.block.partition(".")[0]] = None
    named = {stem.partition(".")[0] for stem in runs}
    spans = [_span(stem, numbers) for stem, numbers in runs.items()]
    return ", ".join([*spans, *(name for name in others if name not in named)]) or phase


def _span(stem: str, numbers: Sequence[int]) -> str:
    short = ".".join(stem.split(".")[-2:])
    first, last = min(numbers), max(numbers)
    return f"{short}.{first}" if first == last else f"{short}.{first}-{last}"
