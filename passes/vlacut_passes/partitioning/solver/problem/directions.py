"""Loop directions: which loops are held to lead one way, and from which side.

What the later trips of a loop cost depends on whether its changes of side all lead one way, see
`vlacut.pricing.phase_loops`. So there is one problem in which every loop waits. Its price is never
below a cut's own. And there is one problem per choice of loops that are held to lead one way, with
the price they have then. The best cut is the best of all of them. Where a loop is on one side as a
whole, both prices are the same; so the latter search only cuts that split the loop.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, product

import numpy as np

from vlacut.hardware import Side
from vlacut.pricing.columns import FREE, Columns
from vlacut.pricing.cost_graph import CostGraph
from vlacut.pricing.phase_loops import PhaseLoop
from vlacut.tensor.numerics import Ints
from vlacut_passes.partitioning.solver.problem.problem import settled

Directions = Mapping[int, Side]
"""The loops that are held to lead one way, by phase, and the side that they lead from."""

Split = tuple[tuple[int, Side], ...]
"""Tasks of loops on given sides, so that no loop is on one."""

_MOST_SPLITS = 64


def all_directions(graph: CostGraph) -> Iterator[tuple[Directions, list[Split]]]:
    """Every choice of loops and directions, none first.

    With splits, so that every cut in which these loops are on both sides has one of them.
    """
    loops = [loop for loop in graph.columns.loops if loop.may_lead]
    for chosen in product(*(_directions(graph.columns, loop) for loop in loops)):
        held = [
            (loop, *direction)
            for loop, direction in zip(loops, chosen, strict=True)
            if direction is not None
        ]
        yield (
            {loop.phase: source for loop, source, _ in held},
            _together([splits for _, _, splits in held]),
        )


def _together(splits: Sequence[Sequence[Split]]) -> list[Split]:
    """Splits of all these loops; none where these are too many."""
    if math.prod(map(len, splits)) > _MOST_SPLITS:
        return [()]
    return [tuple(chain.from_iterable(several)) for several in product(*splits)]


def _directions(columns: Columns, loop: PhaseLoop) -> list[tuple[Side, list[Split]] | None]:
    """None, and the directions in which the loop can be on both sides."""
    directions: list[tuple[Side, list[Split]] | None] = [None]
    for source in Side:
        splits = _splits(columns, loop, source)
        if splits:
            directions.append((source, splits))
    return directions


def _splits(columns: Columns, loop: PhaseLoop, source: Side) -> list[Split]:
    """Pairs of a task on the edge and one in the cloud, of which every split has one.

    If any variable is on the edge, one that no other is the low of is; and the other way round. One
    that holds nothing where these are too many.
    """
    low, high = _rising(loop, source)
    label = variables(columns, (low, high))
    if label is None:
        return []
    tasks = np.flatnonzero(columns.phase == loop.phase)
    inside, first = np.unique(label[tasks], return_index=True)
    apart = label[low] != label[high]
    lowest = tasks[first[~np.isin(inside, label[high[apart]])]].tolist()
    highest = tasks[first[~np.isin(inside, label[low[apart]])]].tolist()
    if len(lowest) * len(highest) > _MOST_SPLITS:
        return [()]
    pairs = ((one, other) for one in lowest for other in highest if label[one] != label[other])
    return [((one, Side.EDGE), (other, Side.CLOUD)) for one, other in pairs]


def rising_of(columns: Columns, directions: Directions) -> tuple[Ints, Ints]:
    """Pairs of tasks, low and high: x[low] <= x[high] where loops have these directions."""
    pairs = [
        _rising(loop, directions[loop.phase]) for loop in columns.loops if loop.phase in directions
    ]
    none = np.zeros(0, dtype=np.int64)
    lows, highs = [low for low, _ in pairs], [high for _, high in pairs]
    return np.concatenate([none, *lows]), np.concatenate([none, *highs])


def _rising(loop: PhaseLoop, source: Side) -> tuple[Ints, Ints]:
    ends = (loop.before, loop.after) if source is Side.EDGE else (loop.after, loop.before)
    low, high = [ends[0], loop.left, loop.taken], [ends[1], loop.taken, loop.left]
    return np.concatenate(low), np.concatenate(high)


def variables(columns: Columns, rising: tuple[Ints, Ints]) -> Ints | None:
    """The variable of every task: one for those that are equal because of these pairs. None if
    nothing keeps the pins.
    """
    free = columns.pinned == FREE
    variable = np.where(free, np.cumsum(free) + 1, columns.pinned)
    if not len(rising[0]):
        return variable
    size = int(variable.max(initial=1)) + 1
    label = settled(size, (variable[rising[0]], variable[rising[1]]))
    return None if label is None else label[variable]
