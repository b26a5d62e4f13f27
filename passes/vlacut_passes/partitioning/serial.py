"""The best cut of a graph within limits, the sides working one after the other.

1. The graph becomes a `Core`, a variable a task.
2. A Lagrangian relaxation, a minimum cut, bounds the objective from below (`dual`). Without hops
   and limits the first minimum cut is the answer; with hops the bound mostly meets an assignment's
   price, which is then proven optimal.
3. What is left is branched on (`branch_and_bound`), from the best of the strategies that others
   have (`strategies`), so that no cut of theirs is ever better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from vlacut.errors import InfeasibleError
from vlacut.hardware import Link
from vlacut.pricing import CostGraph, Price, Side, price
from vlacut_passes.partitioning.branch_and_bound import BranchAndBound
from vlacut_passes.partitioning.core import Ints, make_core
from vlacut_passes.partitioning.effort import Effort
from vlacut_passes.partitioning.known import Incumbent
from vlacut_passes.partitioning.limits import (
    NAMES,
    Limits,
    Quantity,
    all_within,
    limited,
    measured,
    within,
)
from vlacut_passes.partitioning.strategies import BASELINES, all_edge

Sides = tuple[Side, ...]


@dataclass(frozen=True)
class Found:
    """A cut, and the proof of how good it is.

    Attributes:
        sides: of every task.
        price: of the cut.
        value: of the objective.
        bound: no cut within the limits has less of the objective; at most `value`.
        method: what proved the bound.
    """

    sides: Sides
    price: Price
    value: float
    bound: float
    method: str

    @property
    def gap(self) -> float:
        """How far the cut may be from the best, as a share; 0 if it is proven to be the best."""
        return (self.value - self.bound) / self.value if self.value else 0.0


class SerialSearch:
    """The search of a graph whose sides work one after the other.

    Args:
        graph: what to cut; what could overlap in it does not.
        link: the link.
        limits: what is asked for.
        effort: how much may be done.
        starts: cuts to start from, beside the strategies.
        cutoff: only cuts that have less of the objective are of use.
    """

    def __init__(
        self,
        graph: CostGraph,
        link: Link,
        limits: Limits,
        effort: Effort,
        starts: Sequence[Sides] = (),
        cutoff: float = np.inf,
    ) -> None:
        self._graph = replace(graph, in_turn=True)
        self._link = link
        self._limits = _binding(graph, limits)
        self._effort = effort
        self._starts = [sides for sides in starts if _keeps_pins(graph, sides)]
        self._cutoff = cutoff
        self._method = ""

    def run(self) -> Found:
        """The best cut; one that is not below the cutoff if none is, and then `bound` is that.

        Raises InfeasibleError if no cut keeps the limits: which one binds, and by how much.
        """
        limits = limited(self._limits, self._limits.minimise, None)
        start = self._start()
        incumbent, bound = self._minimise(limits, start, self._cutoff)
        sides = _sides(incumbent.x)
        cost = price(self._graph, sides, self._link)
        value = measured(cost)[limits.minimise]
        if incumbent.closed_by(bound):
            bound = incumbent.value if incumbent.value < value * (1 - 1e-9) else value
        return Found(sides, cost, value, min(bound, value), self._method)

    def _start(self) -> Ints:
        """A cut that keeps all limits."""
        most = self._limits.most
        cutters = (all_edge, *BASELINES.values())
        made = (cutter(self._graph, self._link, self._limits.cloud_bytes) for cutter in cutters)
        for sides in chain(self._starts, made):
            if all_within(measured(price(self._graph, sides, self._link)), most):
                return _x(sides)
        return self._lowered(_x(all_edge(self._graph, self._link, None)))

    def _lowered(self, x: Ints) -> Ints:
        """A cut that keeps all limits: one quantity after the other is minimised until it does."""
        kept = Limits()
        for quantity, most in zip(Quantity, self._limits.most, strict=True):
            if most is None:
                continue
            found = measured(price(self._graph, _sides(x), self._link))[quantity]
            if not within(quantity, found, most):
                limits = replace(kept, minimise=quantity)
                incumbent, bound = self._minimise(limits, x, enough=most)
                if not within(quantity, incumbent.value, most):
                    raise _infeasible(kept, quantity, most, bound)
                x = incumbent.x
            kept = limited(kept, quantity, most)
        return x

    def _minimise(
        self,
        limits: Limits,
        start: Ints,
        cutoff: float = np.inf,
        enough: float | None = None,
    ) -> tuple[Incumbent, float]:
        """The best assignment of tasks from `start` on, and its bound."""
        core = make_core(self._graph, self._link, limits)
        incumbent = Incumbent(cutoff, start)
        self._offer(incumbent, limits, start)
        search = BranchAndBound(self._graph, core, incumbent, self._effort, enough)
        self._method = "min-cut"
        if not search.run(most=1) or search.bound < incumbent.value:
            self._method = "branch and bound over min-cuts"
            for cutter in BASELINES.values():
                sides = cutter(self._graph, self._link, limits.cloud_bytes)
                self._offer(incumbent, limits, _x(sides))
            for sides in self._starts:
                self._offer(incumbent, limits, _x(sides))
            search.run()
        return incumbent, search.bound

    def _offer(self, incumbent: Incumbent, limits: Limits, x: Ints) -> None:
        found = measured(price(self._graph, _sides(x), self._link))
        if all_within(found, limits.most):
            incumbent.offer(found[limits.minimise], x)


def _keeps_pins(graph: CostGraph, sides: Sides) -> bool:
    pairs = zip(graph.tasks, sides, strict=True)
    return all(task.pinned in (None, side) for task, side in pairs)


def _binding(graph: CostGraph, limits: Limits) -> Limits:
    """The limits without those that every cut keeps."""
    total = sum(graph.weights)
    for quantity in (Quantity.CLOUD_BYTES, Quantity.EDGE_BYTES):
        most = limits.most[quantity]
        if most is not None and most >= total:
            limits = limited(limits, quantity, None)
    return limits


def _infeasible(kept: Limits, quantity: Quantity, most: float, bound: float) -> InfeasibleError:
    others = ", ".join(
        f"{NAMES[one]} at most {one.text(value)}"
        for one, value in zip(Quantity, kept.most, strict=True)
        if value is not None
    )
    given = f" with {others}" if others else ""
    if within(quantity, bound, most):
        return InfeasibleError(
            f"{NAMES[quantity]}: no cut was found within {quantity.text(most)}{given}, nor was it "
            f"proven that there is none; raise the limit or the effort"
        )
    return InfeasibleError(
        f"{NAMES[quantity]}: at least {quantity.text(bound)}{given}, "
        f"{quantity.text(bound - most)} more than the limit of {quantity.text(most)}; "
        f"raise the limit, or pin less"
    )


def _sides(x: Ints) -> Sides:
    return tuple(Side.CLOUD if one else Side.EDGE for one in x.tolist())


def _x(sides: Sides) -> Ints:
    return np.array([side is Side.CLOUD for side in sides], dtype=np.int64)
