"""The best assignment of a problem within limits, the sides working one after the other.

1. A Lagrangian relaxation, a minimum cut, bounds the objective from below (`dual`). Without hops
   and limits the first minimum cut is the answer; with hops the bound mostly meets an assignment's
   price, which is then proven optimal.
2. What is left is branched on (`branch_and_bound`), from the best of the cuts that are known
   beforehand, so that none of these is ever better, and from the best ones with the weights where
   those cuts have them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from vlacut.errors import InfeasibleError
from vlacut.hardware import Link, Side
from vlacut.pricing.columns import FREE
from vlacut.pricing.cost_graph import CostGraph
from vlacut.pricing.cut import Sides
from vlacut.pricing.price import in_cloud
from vlacut.tensor.numerics import Floats, Ints
from vlacut_passes.partitioning.limits import NAMES, Limits, Quantity, all_within, limited, within
from vlacut_passes.partitioning.solver.branch_and_bound import BranchAndBound
from vlacut_passes.partitioning.solver.branching import Order, make_order
from vlacut_passes.partitioning.solver.effort import Effort
from vlacut_passes.partitioning.solver.incumbent import Incumbent
from vlacut_passes.partitioning.solver.problem.problem import (
    Problem,
    holding,
    only_cloud,
    within_limits,
)
from vlacut_passes.partitioning.strategies import all_edge, baselines


@dataclass(frozen=True)
class Hints:
    """What a graph tells a search before it starts. What takes time is made when it is asked for.

    Attributes:
        graph, link: what is cut.
        budget: bytes that the cloud may hold, for strategies.
        given: cuts to start from; None for the strategies' own.
    """

    graph: CostGraph
    link: Link
    budget: int | None
    given: Sequence[Sides] | None

    @cached_property
    def order(self) -> Order:
        """In what order tasks are branched on."""
        return make_order(self.graph)

    @cached_property
    def cuts(self) -> Sequence[Sides]:
        """Cuts that are known beforehand: no worse one is an answer."""
        if self.given is None:
            return tuple(baselines(self.graph, self.link, self.budget).values())
        return self.given

    def first_layers(self, budget: int) -> Ints:
        """As many of the first layers in the cloud as the budget allows: what no strategy tries."""
        columns, place = self.graph.columns, self.order.place

        def cut(end: int) -> Ints:
            return np.where(columns.pinned == FREE, place < end, columns.pinned)

        ends = range(1, len(place) + 1)
        end = bisect_right(ends, budget, key=lambda one: columns.held_bytes(cut(one) == 1))
        return cut(end)

    def starts(self) -> Iterator[Ints]:
        """All cuts to start from, the cheapest to make first."""
        yield in_cloud(all_edge(self.graph))
        for sides in self.cuts:
            yield in_cloud(sides)


@dataclass(frozen=True)
class InTurn:
    """An assignment of tasks, and the proof of how good it is.

    Attributes:
        x: side of every task; None if no assignment is below the cutoff.
        value: of the objective; then the cutoff.
        bound: no assignment within the limits has less of the objective; at most `value`.
        method: what proved the bound.
    """

    x: Ints | None
    value: float
    bound: float
    method: str


class SerialSearch:
    """The search of a problem.

    Args:
        problem: what to cut, without limits.
        limits: what is asked for.
        effort: how much may be done.
        hints: cuts to start from, and an order.
        cutoff: only assignments that have less of the objective are of use.
        most: branches after the first, where there is a cutoff; None for as many as it takes.
    """

    def __init__(
        self,
        problem: Problem,
        limits: Limits,
        effort: Effort,
        hints: Hints,
        cutoff: float = np.inf,
        most: int | None = None,
    ) -> None:
        self._problem = problem
        self._limits = limits
        self._effort = effort
        self._hints = hints
        self._cutoff = cutoff
        self._most = most
        self._method = ""

    def run(self) -> InTurn:
        """The best assignment.

        Raises InfeasibleError if there is no cutoff and none keeps the limits: which one binds, and
        by how much.
        """
        limits = limited(self._limits, self._limits.minimise, None)
        start = None if self._cutoff < np.inf else self._start()
        incumbent, bound = self._minimise(limits, start, self._cutoff)
        if incumbent.x is None:
            bound = self._cutoff if incumbent.closed_by(bound) else bound
            return InTurn(None, self._cutoff, min(bound, self._cutoff), self._method)
        quantities = self._measured(within_limits(self._problem, limits), incumbent.x)
        assert quantities is not None, "the start keeps its pins, and so does what replaced it"
        value = float(quantities[limits.minimise])
        if incumbent.closed_by(bound):
            bound = incumbent.value if incumbent.value < value * (1 - 1e-9) else value
        return InTurn(incumbent.x, value, min(bound, value), self._method)

    def _start(self) -> Ints:
        """An assignment that keeps all limits."""
        problem = within_limits(self._problem, self._limits)
        for x in self._hints.starts():
            quantities = self._measured(problem, x)
            if quantities is not None and all_within(quantities.tolist(), self._limits.most):
                return x
        return self._lowered(only_cloud(problem.size)[problem.of_task])

    def _lowered(self, x: Ints) -> Ints:
        """What keeps all limits: one quantity after the other is minimised until it does."""
        kept = Limits()
        for quantity, most in zip(Quantity, self._limits.most, strict=True):
            if most is None:
                continue
            limits = replace(kept, minimise=quantity)
            quantities = self._measured(within_limits(self._problem, limits), x)
            assert quantities is not None, "the first one keeps its pins, and so do the others"
            if not within(quantity, float(quantities[quantity]), most):
                incumbent, bound = self._minimise(limits, x, enough=most)
                if not within(quantity, incumbent.value, most):
                    raise _infeasible(kept, quantity, most, bound)
                assert incumbent.x is not None, "it starts with one"
                x = incumbent.x
            kept = limited(kept, quantity, most)
        return x

    def _minimise(
        self,
        limits: Limits,
        start: Ints | None,
        cutoff: float = np.inf,
        enough: float | None = None,
    ) -> tuple[Incumbent, float]:
        """The best assignment of tasks from `start` on, and its bound."""
        problem = within_limits(self._problem, limits)
        incumbent = Incumbent(cutoff, start)
        if start is not None:
            self._offer(incumbent, problem, start)
        search = BranchAndBound(lambda: self._hints.order, problem, incumbent, self._effort, enough)
        self._method = "min-cut"
        if not search.run(most=1) or search.bound < incumbent.value:
            self._method = "branch and bound over min-cuts"
            for x in self._hints.starts():
                self._offer(incumbent, problem, x)
            if start is not None:
                self._refine(incumbent, problem)
            search.run(self._most)
        return incumbent, search.bound

    def _offer(self, incumbent: Incumbent, problem: Problem, x: Ints) -> None:
        quantities = self._measured(problem, x)
        if quantities is not None and all_within(quantities.tolist(), problem.limits.most):
            incumbent.offer(float(quantities[problem.limits.minimise]), x)

    def _refine(self, incumbent: Incumbent, problem: Problem) -> None:
        """Offer the best assignments that hold no weights but those of a start: without a limit on
        weights, the search mostly finds these at once.
        """
        limits, seen = problem.limits, set[bytes]()
        if limits.cloud_bytes is None and limits.edge_bytes is None:
            return
        starts = list(self._hints.starts())
        if limits.cloud_bytes is not None:
            starts.append(self._hints.first_layers(limits.cloud_bytes))
        for tasks in starts:
            x = problem.of_tasks(tasks)
            if x is None or not all_within(problem.quantities(x, 0.0).tolist(), limits.most):
                continue
            held = holding(problem, x)
            if held.of_task.tobytes() not in seen:
                seen.add(held.of_task.tobytes())
                BranchAndBound(lambda: self._hints.order, held, incumbent, self._effort).run(most=1)

    def _measured(self, problem: Problem, tasks: Ints) -> Floats | None:
        """The quantities of an assignment of tasks; None where the problem has it otherwise."""
        x = problem.of_tasks(tasks)
        return None if x is None else problem.quantities(x, problem.peak_s(x))


def binding(graph: CostGraph, limits: Limits) -> Limits:
    """The limits without those that every cut keeps."""
    for quantity, side in ((Quantity.CLOUD_BYTES, Side.CLOUD), (Quantity.EDGE_BYTES, Side.EDGE)):
        most = limits.most[quantity]
        if most is not None and most >= sum(graph.bytes_on(side)):
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
