"""Split: carries a cut out. Cuts in, parts and their schedules out.

A pool has several placements of the same operators: the variants. One set of parts serves all of
them, and each has its own schedule. `vlacut.split.pieces` says what becomes a part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import onnx_ir as ir

from vlacut.hardware import Link, Side
from vlacut.ir.annotation import SECONDS, STRUCTURE
from vlacut.ir.dataflow import Dataflow, cuts_of
from vlacut.ir.fingerprint import fingerprint
from vlacut.ir.graphs import node_inputs, strip, value_spec
from vlacut.ir.program import Phase, Program
from vlacut.ir.state import State
from vlacut.ir.uses import Use, key_of
from vlacut.plans.instructions import Instruction
from vlacut.plans.plan import Part
from vlacut.plans.pool import FUSED
from vlacut.plans.state import PlanState
from vlacut.pricing.coding import coded
from vlacut.pricing.cost_graph import CostGraph, When
from vlacut.pricing.cut import Cut
from vlacut.pricing.price import price
from vlacut.split.pieces import Piece, make_pieces
from vlacut.split.schedule import make_first, make_schedule
from vlacut.tensor import TensorSpec


@dataclass(frozen=True)
class Split:
    """The parts and schedules of a cut and its alternatives.

    Attributes:
        parts: the parts of all variants; those of the first variant come first, in the order of its
            schedule.
        extracted: makes the operators of every part, in the same order.
        schedules: one per variant, for both sides.
        firsts: what the first step of an episode does before each schedule.
        tensors: the spec of every key in the schedules.
    """

    parts: tuple[Part, ...]
    extracted: tuple[Callable[[], ir.Model], ...]
    schedules: tuple[tuple[Instruction, ...], ...]
    firsts: tuple[tuple[Instruction, ...], ...]
    tensors: tuple[TensorSpec, ...]

    @cached_property
    def models(self) -> tuple[ir.Model, ...]:
        """The operators of every part; no plan needs them, so they are extracted when asked for.

        Inputs and outputs are named by their keys; weights are shared with the program, by
        reference.
        """
        return tuple(make() for make in self.extracted)

    @property
    def schedule(self) -> tuple[Instruction, ...]:
        """The schedule of the chosen cut."""
        return self.schedules[0]


def split(dataflow: Dataflow) -> Split:
    """Split a program by the cuts that `partition`, and `alternatives`, wrote on it.

    Needs `annotate-cost` and `partition`; raises PassError without them.
    """
    cuts = cuts_of(dataflow)
    return split_at(dataflow, cuts.variants, cuts.asked.link, cuts.pool.engines == FUSED)


def split_at(dataflow: Dataflow, variants: Sequence[Cut], link: Link, fused: bool = False) -> Split:
    """Split a program by these cuts, one per variant.

    Args:
        dataflow: of the program.
        variants: the chosen cut first.
        link: the link over which they are priced.
        fused: see `make_pieces`.
    """
    by_variant = make_pieces(dataflow, [cut.sides for cut in variants], fused)
    cuts = [_CutDataflow(dataflow, cut, link) for cut in variants]
    made: dict[Piece, tuple[Border, Part]] = {}
    numbers = dict.fromkeys(range(len(dataflow.program.phases)), 0)
    for cut, pieces in zip(cuts, by_variant, strict=True):
        for piece in pieces:
            if piece not in made:
                border = _border(cut, piece)
                made[piece] = border, _part(cut, border, numbers[piece.phase])
                numbers[piece.phase] += 1
    return Split(
        tuple(part for _, part in made.values()),
        tuple(
            partial(extract, dataflow.program.phases[border.phase], border)
            for border, _ in made.values()
        ),
        tuple(
            make_schedule(dataflow, cut.sides, [made[piece][1] for piece in pieces], cut.choices)
            for cut, pieces in zip(cuts, by_variant, strict=True)
        ),
        tuple(
            make_first(dataflow, cut.sides, [made[piece][1] for piece in pieces])
            for cut, pieces in zip(cuts, by_variant, strict=True)
        ),
        tuple(_specs(dataflow, [border for border, _ in made.values()]).values()),
    )


def plan_states(dataflow: Dataflow) -> tuple[PlanState, ...]:
    """What a control step leaves to the next, as a plan says it."""
    return tuple(_plan_state(dataflow.program, state) for state in dataflow.states)


def whole_states(program: Program) -> tuple[PlanState, ...]:
    """The same for the uncut phases, including state that no action depends on."""
    return tuple(_plan_state(program, state) for state in program.states)


def _plan_state(program: Program, state: State) -> PlanState:
    made, first = program.state_source(state), program.reset_source(state.input)
    return PlanState(
        state.name,
        state.input,
        key_of(program, made) if made else "",
        key_of(program, first) if first else "",
        given=state.initial is not None and first is None,
    )


class _CutDataflow:
    """A dataflow with its cut, and what the parts are read off."""

    def __init__(self, dataflow: Dataflow, cut: Cut, link: Link) -> None:
        self.dataflow = dataflow
        self.program = dataflow.program
        self.sides = cut.sides
        self.choices = cut.choices
        self.costs = coded(dataflow.cost_graph(), cut.choices)
        self.link = link
        self.total_s = cut.price.total_s
        self.task = {node: task for task, node in enumerate(dataflow.nodes) if node is not None}

    def saves_s(self, tasks: Sequence[int]) -> float:
        """What moving these tasks to the other side would add to a control step; of what runs on
        reset, to the first one of an episode.
        """
        sides = list(self.sides)
        for task in tasks:
            sides[task] = sides[task].other
        phase = self.program.phases[self.dataflow.phases[tasks[0]]]
        if self.first is not None and phase.on_reset:
            now_s = price(self.first, self.sides, self.link).total_s
            return price(self.first, sides, self.link).total_s - now_s
        return price(self.costs, sides, self.link).total_s - self.total_s

    @cached_property
    def first(self) -> CostGraph | None:
        """What the first step of an episode costs beyond."""
        return self.dataflow.reset_graph()

    def node(self, task: int) -> ir.Node:
        """The operator of a task that is neither the observation nor the action."""
        node = self.dataflow.nodes[task]
        assert node is not None
        return node


@dataclass(frozen=True)
class Border:
    """A part's tasks, and the values that enter and leave it, with their keys."""

    phase: int
    tasks: tuple[int, ...]
    inputs: Mapping[ir.Value, str]
    outputs: Mapping[ir.Value, str]


def _border(cut: _CutDataflow, piece: Piece) -> Border:
    phase, inside = piece.phase, set(piece.tasks)
    nodes = [cut.node(task) for task in piece.tasks]
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
        if _leaves(cut.dataflow.readers.get(key := f"{name}/{value.name}", ()), inside)
    }
    return Border(phase, piece.tasks, inputs, outputs)


def _entering(cut: _CutDataflow, phase: int, value: ir.Value, inside: set[int]) -> str | None:
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


def _part(cut: _CutDataflow, border: Border, number: int) -> Part:
    phase = cut.program.phases[border.phase]
    nodes = [cut.node(task) for task in border.tasks]
    side = cut.sides[border.tasks[0]]
    seconds = [SECONDS.get(node) for node in nodes]
    weights = {name for node in nodes for name in cut.dataflow.weights[node]}
    initializers = phase.model.graph.initializers
    return Part(
        name=f"{phase.name}.{number}",
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


def _specs(dataflow: Dataflow, borders: Iterable[Border]) -> dict[str, TensorSpec]:
    program = dataflow.program
    specs = {spec.name: spec for spec in program.inputs}
    specs |= {state.input: program.state_spec(state) for state in program.states}
    for border in borders:
        for value, key in (*border.inputs.items(), *border.outputs.items()):
            specs.setdefault(key, value_spec(value, key))
    return specs


def extract(phase: Phase, border: Border) -> ir.Model:
    """The operators of a part as a model of its own, with the weight-only operators they read."""
    graph = ir.convenience.extract(
        phase.model.graph, inputs=tuple(border.inputs), outputs=tuple(border.outputs)
    )
    return _named(phase, graph, border.inputs.values(), border.outputs.values())


def whole(phase: Phase, inputs: Sequence[str]) -> ir.Model:
    """A phase uncut, its inputs named by these keys and its outputs `phase/name`."""
    outputs = [f"{phase.name}/{name}" for name in phase.output_names]
    return _named(phase, phase.model.graph.clone(), inputs, outputs)


def _named(
    phase: Phase, graph: ir.Graph, inputs: Iterable[str], outputs: Iterable[str]
) -> ir.Model:
    for value, key in zip(graph.inputs, inputs, strict=True):
        value.name = key
    for value, key in zip(graph.outputs, outputs, strict=True):
        value.name = key
    for node in graph:
        strip(node)
    graph.name = phase.name
    return ir.Model(graph, ir_version=phase.model.ir_version)


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
