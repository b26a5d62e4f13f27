"""States of sections: which branches a cut leaves whole on which side, and what that saves.

A cut is in one state of every section. What the state saves is known from the sides of its whole
branches and of the gates alone, so a cut costs what it costs with nothing in parallel, less what
its states save.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from vlacut.cost_graph import CostGraph, Side
from vlacut.hardware import Link
from vlacut.pricing import parallel
from vlacut.sections import NO_GATE, Section
from vlacut_passes.partitioning.core import CLOUD, EDGE, Core, relabel

_Places = tuple["Side | None", ...]


@dataclass(frozen=True)
class State:
    """A state of a section.

    Attributes:
        sides: of the tasks that decide it; the others are free.
        saved_s: seconds of a control step that every cut in it saves there at least, and exactly
            those that leave no other branch whole.
    """

    sides: tuple[tuple[int, Side], ...] = ()
    saved_s: float = 0.0


def states(graph: CostGraph, section: Section, link: Link) -> list[State]:
    """The states that save anything and keep the pins, those that save most first."""
    found = [
        State(tuple(sides.items()), saved_s)
        for sides, saved_s in _every(graph, section, link)
        if saved_s > 0
    ]
    return sorted(found, key=lambda one: (-one.saved_s, one.sides))


def _every(
    graph: CostGraph, section: Section, link: Link
) -> Iterator[tuple[dict[int, Side], float]]:
    gates = [gate for gate in (section.entry, section.exit) if gate != NO_GATE]
    for placed in product((*Side, None), repeat=len(section.branches)):
        if not set(Side) <= set(placed):
            continue
        groups: dict[Side, list[int]] = {side: [] for side in Side}
        for side, branch in zip(placed, section.branches, strict=True):
            if side is not None:
                groups[side] += branch
        inside = {task: side for side, tasks in groups.items() for task in tasks}
        for ends in product(Side, repeat=len(gates)):
            sides = inside | dict(zip(gates, ends, strict=True))
            if all(graph.tasks[task].pinned in (None, side) for task, side in sides.items()):
                found = parallel(
                    graph, section, groups, sides.get(section.entry), sides.get(section.exit)
                )
                yield sides, found.saved_s(link)


def placed(core: Core, chosen: tuple[State, ...]) -> Core:
    """The core with the tasks of these states on their sides. Its variables must be tasks."""
    label = np.arange(core.size)
    for state in chosen:
        for task, side in state.sides:
            label[core.of_task[task]] = CLOUD if side is Side.CLOUD else EDGE
    kept, label = np.unique(label, return_inverse=True)
    return relabel(core, label.astype(np.int64), len(kept), whole=True)


def agree(chosen: tuple[State, ...], state: State) -> bool:
    """Whether a cut can be in all of these states."""
    sides = {task: side for one in chosen for task, side in one.sides}
    return all(sides.get(task, side) is side for task, side in state.sides)
