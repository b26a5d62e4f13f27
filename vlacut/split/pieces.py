"""Pieces: which operators become one part.

Within a phase, the *level* of an operator under a placement is the number of changes of side on the
longest chain that leads to it: even levels are on the edge, odd ones in the cloud. No path between
two operators of one level leaves it, so what is on one level is convex, and running it level by
level meets every dependency.

Variants share their pieces: a *segment* is what has the same level in every variant. Levels never
fall along a path, so segments are convex too, and any order by the level in one variant first is an
order in which they can run. What no variant moves stays one piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vlacut.hardware import Side
from vlacut.ir.dataflow import Dataflow
from vlacut.plans.pool import FUSED, Engines
from vlacut.pricing.cost_graph import CostGraph, When
from vlacut.pricing.overlap import grouped
from vlacut.pricing.regions import NO_JOIN


@dataclass(frozen=True)
class Piece:
    """Operators of one phase, in order, that run together on one side."""

    phase: int
    tasks: tuple[int, ...]
    side: Side


def make_pieces(
    dataflow: Dataflow, placements: Sequence[Sequence[Side]], fused: bool = False
) -> list[list[Piece]]:
    """The pieces of every variant in the order in which it runs them.

    Args:
        dataflow: of the program.
        placements: the side of every task, one per variant.
        fused: a piece is a whole level of one variant; only those alike in all operators are
            shared. Otherwise pieces are segments.
    """
    phases = dataflow.program.phases
    graph, first = dataflow.cost_graph(), dataflow.reset_graph()
    places = [places_of(graph, sides) for sides in placements]
    if first is not None:
        resets = {index for index, phase in enumerate(phases) if phase.on_reset}
        on_reset = [phase in resets for phase in dataflow.phases]
        for own, sides in zip(places, placements, strict=True):
            known = zip(own, places_of(first, sides), on_reset, strict=True)
            own[:] = [late if first_alone else early for early, late, first_alone in known]
    segments = list(zip(*places, strict=True))
    found = []
    for own in places:
        members: dict[tuple[int, tuple[Place, ...]], list[int]] = {}
        for task in range(1, len(own) - 1):
            shared = () if fused else segments[task]
            members.setdefault((dataflow.phases[task], (own[task], *shared)), []).append(task)
        found.append(
            [
                Piece(phase, tuple(tasks), Side.CLOUD if key[0].level % 2 else Side.EDGE)
                for (phase, key), tasks in sorted(members.items())
            ]
        )
    return found


def engines_of(dataflow: Dataflow, placements: Sequence[Sequence[Side]], form: str) -> Engines:
    """What the engines would hold in one of the two forms."""
    costs = dataflow.cost_graph()
    held: dict[Side, list[int]] = {side: [] for side in Side}
    for piece in {
        piece for pieces in make_pieces(dataflow, placements, form == FUSED) for piece in pieces
    }:
        weights = {weight for task in piece.tasks for weight in costs.tasks[task].weights}
        held[piece.side].append(sum(costs.bytes_on(piece.side)[weight] for weight in weights))
    edge, cloud = held[Side.EDGE], held[Side.CLOUD]
    return Engines(
        form=form, edge=len(edge), cloud=len(cloud), edge_bytes=sum(edge), cloud_bytes=sum(cloud)
    )


class Place(NamedTuple):
    """Where in its phase an operator runs; operators of one place run together."""

    level: int
    stretch: int


def places_of(graph: CostGraph, sides: Sequence[Side]) -> list[Place]:
    """The place of every task."""
    level = [int(side is Side.CLOUD) for side in sides]
    for one in graph.dependencies:
        if one.when is When.WITHIN:
            change = sides[one.producer] is not sides[one.consumer]
            level[one.consumer] = max(level[one.consumer], level[one.producer] + change)
    return [Place(*pair) for pair in zip(level, _stretches(graph, sides), strict=True)]


def _stretches(graph: CostGraph, sides: Sequence[Side]) -> list[int]:
    stretch = [0] * len(sides)
    for region in graph.regions:
        groups = grouped(region, sides)
        if not all(groups.values()):
            continue
        for task in (task for tasks in groups.values() for task in tasks):
            stretch[task] += 1
        if region.exit != NO_JOIN:
            for task in range(region.exit, len(sides)):
                stretch[task] += 2 * (graph.tasks[task].phase == region.phase)
    return stretch
