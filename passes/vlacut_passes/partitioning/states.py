"""States of regions: which branches a cut leaves whole on which side, and what that saves.

A cut is in one state of every region. The sides of its whole branches and of the joins alone say
what the state saves. So the price of a cut is its price with nothing in parallel, less what its
states save.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from vlacut.hardware import Link, Side
from vlacut.pricing.cost_graph import CostGraph
from vlacut.pricing.overlap import parallel, trips_of
from vlacut.pricing.regions import NO_JOIN, ParallelRegion

_Places = tuple["Side | None", ...]


@dataclass(frozen=True)
class State:
    """A state of a region, or several states with the same branches on the same sides.

    Attributes:
        sides: the sides of the tasks that decide it; the other tasks are free.
        saved_s: seconds per control step that every cut in this state saves at least. A cut that
            leaves no other branch whole saves exactly this. For several states it is the most.
        several: the single states, those that save most first; empty if it is one.
    """

    sides: tuple[tuple[int, Side], ...] = ()
    saved_s: float = 0.0
    several: tuple[State, ...] = ()


def _together(alike: list[State]) -> State:
    """States as one: on given sides is what is there in all of them."""
    first, *others = sorted(alike, key=lambda one: (-one.saved_s, one.sides))
    if not others:
        return first
    common = set(first.sides).intersection(*(one.sides for one in others))
    sides = tuple(place for place in first.sides if place in common)
    return State(sides, first.saved_s, (first, *others))


def states(
    graph: CostGraph, region: ParallelRegion, link: Link, one_way: Container[int] = ()
) -> list[State]:
    """The states that save anything and keep the pins, those that save most first; `one_way` are
    the phases that lead one way.
    """
    times = trips_of(graph, region, one_way)
    every: list[State] = []
    for placed in product((*Side, None), repeat=len(region.branches)):
        groups: dict[Side, list[int]] = {side: [] for side in Side}
        for side, branch in zip(placed, region.branches, strict=True):
            if side is not None:
                groups[side] += branch
        if all(groups.values()):
            alike = list(_every(graph, region, link, groups, times))
            every += [_together(alike)] if alike else []
    return sorted(every, key=lambda one: (-one.saved_s, one.sides))


def _every(
    graph: CostGraph, region: ParallelRegion, link: Link, groups: dict[Side, list[int]], times: int
) -> Iterator[State]:
    """The states with these branches on these sides that save anything and keep the pins."""
    joins = [join for join in (region.entry, region.exit) if join != NO_JOIN]
    inside = {task: side for side, tasks in groups.items() for task in tasks}
    for ends in product(Side, repeat=len(joins)):
        sides = inside | dict(zip(joins, ends, strict=True))
        if all(graph.tasks[task].pinned in (None, side) for task, side in sides.items()):
            places = sides.get(region.entry), sides.get(region.exit)
            saved_s = parallel(graph, region, groups, *places, times).saved_s(link)
            if saved_s > 0:
                yield State(tuple(sides.items()), saved_s)


def agree(chosen: Sequence[State], state: State) -> bool:
    """Whether a cut can be in all of these states."""
    sides = {task: side for one in chosen for task, side in one.sides}
    return all(sides.get(task, side) is side for task, side in state.sides)
