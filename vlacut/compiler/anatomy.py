"""What a plan was made of, for people: blocks, what parts hold of them, and cuts at one place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from vlacut.bundle.planning import Block, Held, Planning, Position
from vlacut.hardware import Link, Side
from vlacut.ir.annotation import STRUCTURE, Structure
from vlacut.ir.dataflow import Dataflow, cuts_of
from vlacut.ir.graphs import operators, value_spec
from vlacut.plans.plan import Plan
from vlacut.pricing.cost_graph import CostGraph
from vlacut.pricing.price import price
from vlacut.split.parts import Split

MOST_POSITIONS = 64  # each is priced; more are not told apart in a picture
_STAGES = ("encoder", "backbone", "decoder")


def anatomy(
    dataflow: Dataflow, plan: Plan, parts: Split, interval_s: tuple[float, float]
) -> Planning:
    """What a cut program's plan was made of. Needs `annotate-cost` and `partition`."""
    graph, chain = dataflow.cost_graph(), _chain(dataflow)
    return Planning(
        interval_s=interval_s,
        doubled={side.value: _doubled(plan, parts, side) for side in Side},
        blocks=tuple(_block(dataflow, graph, one) for one in chain),
        positions=tuple(_positions(graph, chain, cuts_of(dataflow).asked.pins, dataflow)),
        parts={
            part.name: _held(model, part.phase)
            for part, model in zip(parts.parts, parts.models, strict=True)
        },
    )


@dataclass(frozen=True)
class _Link:
    """A block of the chain, and its tasks."""

    structure: Structure
    tasks: list[int] = field(default_factory=list)


def _chain(dataflow: Dataflow) -> list[_Link]:
    """The blocks in the order of their stages, then of their first operators.

    A block that several phases have, as the layers of a decoder, is one: it is held once.
    """
    found: dict[tuple[str, str], _Link] = {}
    for task, node in enumerate(dataflow.nodes):
        if node is None:
            continue
        at = _structure(node, dataflow.program.phases[dataflow.phases[task]].name)
        found.setdefault((at.stage, at.block), _Link(at)).tasks.append(task)
    return sorted(found.values(), key=lambda one: _STAGES.index(one.structure.stage))


def _structure(node: ir.Node, phase: str) -> Structure:
    """An operator's place; its phase where no pass has said one."""
    return STRUCTURE.find(node) or Structure(_STAGES[1], phase, "")


def _block(dataflow: Dataflow, graph: CostGraph, link: _Link) -> Block:
    tasks = [(graph.tasks[task], graph.trips_of(task)) for task in link.tasks]
    weights = {weight for task, _ in tasks for weight in task.weights}
    phases = dict.fromkeys(dataflow.program.phases[task.phase].name for task, _ in tasks)
    return Block(
        stage=link.structure.stage,
        name=link.structure.block,
        phases=tuple(phases),
        edge_s=sum(task.edge_s * trips for task, trips in tasks),
        cloud_s=sum(task.cloud_s * trips for task, trips in tasks),
        weight_bytes=sum(graph.weights[weight] for weight in weights),
    )


def _positions(
    graph: CostGraph, chain: Sequence[_Link], pins: Mapping[int, Side], dataflow: Dataflow
) -> Iterable[Position]:
    link = cuts_of(dataflow).asked.link
    count = min(len(chain), MOST_POSITIONS)
    for place in sorted({round(index * len(chain) / max(count, 1)) for index in range(count + 1)}):
        here = {task for one in chain[:place] for task in one.tasks}
        sides = [
            task.pinned or pins.get(index) or (Side.EDGE if index in here else Side.CLOUD)
            for index, task in enumerate(graph.tasks)
        ]
        yield _position(graph, sides, link, place)


def _position(graph: CostGraph, sides: Sequence[Side], link: Link, blocks: int) -> Position:
    found = price(graph, sides, link)
    return Position(
        blocks=blocks,
        edge_s=found.edge_s,
        cloud_s=found.cloud_s,
        up_s=found.up_s,
        down_s=found.down_s,
        hop_s=found.hop_s,
        overlap_s=found.overlap_s,
        bytes_up=found.bytes_up,
        bytes_down=found.bytes_down,
    )


def _doubled(plan: Plan, parts: Split, side: Side) -> int:
    """Bytes of weights that a side holds for the sake of variants other than the first."""
    first, *others = (
        {name for part in plan.variant_parts(variant, side) for name in part.weights}
        for variant in plan.variants
    )
    initializers = (model.graph.initializers.items() for model in parts.models)
    sizes = {name: value_spec(value).nbytes for each in initializers for name, value in each}
    return sum(sizes[name] for name in set().union(*others) - first)


def _held(model: ir.Model, phase: str) -> tuple[Held, ...]:
    """The blocks of a part, in the order of their first operators."""
    counted: dict[str, Counter[str]] = {}
    for node in operators(model.graph):
        block = _structure(node, phase).block
        counted.setdefault(block, Counter())[node.op_type] += 1
    return tuple(Held(block, dict(sorted(kinds.items()))) for block, kinds in counted.items())
