"""The best cut of a graph within limits, with the proof that no cut is better.

A cut costs what it costs with its sides working in turn (`serial`), less what the states of its
regions save (`overlap`). The directions of its loops are given (`problem.make_problem`). So the
best cut of some states is the best one in turn that keeps the tasks of these states on their sides.
A bound on that cut, less what the states save, bounds all cuts in these states.

For every choice of directions, the search branches on states, region by region, the lowest bound
first. States that differ in their joins alone stay together at first. A region without a state
saves nothing, and every cut may do so. The splits of loops come last. Most searches end at once: a
state saves less than it costs. So a node that can still be divided is searched briefly.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count

import numpy as np

from vlacut.errors import InfeasibleError
from vlacut.hardware import Link, Side
from vlacut.pricing.cost_graph import CostGraph
from vlacut.pricing.cut import Cut, Sides, make_cut
from vlacut.pricing.price import Certificate, Price, price
from vlacut.tensor.numerics import ROUNDING, Ints
from vlacut_passes.partitioning.infeasible import explained
from vlacut_passes.partitioning.limits import Limits, Quantity, all_within, limited, measured
from vlacut_passes.partitioning.solver.effort import Effort
from vlacut_passes.partitioning.solver.problem.directions import Directions, Split, all_directions
from vlacut_passes.partitioning.solver.problem.make_problem import make_problem
from vlacut_passes.partitioning.solver.problem.problem import Problem, placed
from vlacut_passes.partitioning.solver.serial import Hints, SerialSearch, binding
from vlacut_passes.partitioning.states import State, agree, states

MOST = 40e6  # most a minute of one core
_BRIEFLY = 1  # branches of a search that can be divided into closer ones
_NONE = State()


@dataclass(frozen=True)
class Found:
    """A cut, and the proof of how good it is.

    Attributes:
        cut: the best one found.
        value: of the objective.
        bound: no cut within the limits has less of the objective; at most `value`.
        method: what proved the bound.
    """

    cut: Cut
    value: float
    bound: float
    method: str

    @property
    def sides(self) -> Sides:
        """Of every task."""
        return self.cut.sides

    @property
    def price(self) -> Price:
        """Of the cut."""
        return self.cut.price

    @property
    def gap(self) -> float:
        """How far the cut may be from the best, as a share; 0 if it is proven to be the best."""
        return self.certificate("").gap

    def certificate(self, minimised: str) -> Certificate:
        """The proof for the report; `minimised` names the objective there."""
        return Certificate(minimised, self.value, self.bound, self.method)


def optimal_cut(
    graph: CostGraph,
    link: Link,
    limits: Limits | None = None,
    *,
    effort: float = MOST,
    starts: Sequence[Sides] | None = None,
) -> Found:
    """The cut within the limits that has the least of the objective.

    Of cuts that are equally good, those with fewer tasks in the cloud are preferred. When `effort`,
    see `Effort`, is spent, the best cut known is returned with its bound. `starts` are cuts to
    start from; without any, those of `baselines`.

    Raises InfeasibleError if no cut keeps the limits: which one binds, and by how much.
    """
    asked = limits or Limits()
    cases = [_make_case(graph, link, *directions) for directions in all_directions(graph)]
    hints = Hints(graph, link, asked.cloud_bytes, starts)

    def best(limits: Limits) -> Found:
        return _Search(cases, hints, binding(graph, limits), Effort(effort)).run()

    def least(limits: Limits) -> tuple[float, float]:
        optimum = best(limits)
        return optimum.value, optimum.bound

    try:
        return best(asked)
    except InfeasibleError as error:
        raise explained(asked, least) from error


@dataclass(frozen=True)
class _Case:
    """Cuts whose loops have given directions.

    Attributes:
        options: the states of every region.
        splits: of the loops that are held to lead one way; every cut has one of them. None if there
            are no such loops, or they are taken as they are.
    """

    problem: Problem
    options: Sequence[Sequence[State]]
    splits: Sequence[State]


def _make_case(
    graph: CostGraph, link: Link, directions: Directions, splits: Sequence[Split]
) -> _Case:
    every = (states(graph, region, link, directions) for region in graph.regions)
    options = [of_region for of_region in every if of_region]
    options.sort(key=lambda of_region: -of_region[0].saved_s)
    problem = make_problem(graph, link, directions)
    return _Case(problem, options, [State(split) for split in splits if split])


@dataclass(frozen=True)
class _Node:
    """Cuts of a case in these states of its first regions, and of all of them with this split.

    Attributes:
        in_turn: no cut in these states has less of the objective with its sides working in turn.
        searched: whether that is the best there is, and not what a larger node had.
    """

    case: _Case
    chosen: tuple[State, ...] = ()
    in_turn: float = -np.inf
    searched: bool = False

    @property
    def whole(self) -> bool:
        """Whether no state is chosen, and a split is to come: without one, the loops may be on one
        side, and so its best cut is none that leads one way.
        """
        return bool(self.case.splits) and not any(state.sides for state in self.chosen)

    @property
    def complete(self) -> bool:
        """Whether there is nothing left to choose."""
        places = len(self.case.options) + bool(self.case.splits)
        return len(self.chosen) == places and not (self.chosen and self.chosen[-1].several)

    def children(self, again: bool) -> Iterator[_Node]:
        """The node divided: by the states that its last one stands for, if these are several; else
        by the states of the next region; at the end by splits.

        `again` is whether what was searched is, with less saved, still the best there is.
        """
        place = len(self.chosen)
        *chosen, last = self.chosen or [_NONE]
        if last.several:
            yield from self._with(chosen, last.several)
        elif place < len(self.case.options):
            # without a state a cut is as good as in turn
            searched = self.searched and again
            yield replace(self, chosen=(*self.chosen, _NONE), searched=searched)
            yield from self._with(self.chosen, self.case.options[place])
        else:
            yield from self._with(self.chosen, self.case.splits)

    def _with(self, chosen: Sequence[State], states: Sequence[State]) -> Iterator[_Node]:
        for state in states:
            if agree(chosen, state):
                yield replace(self, chosen=(*chosen, state), searched=False)


@dataclass(frozen=True)
class _Incumbent:
    """The best cut known, and its value of the objective."""

    sides: Sides
    price: Price
    value: float


class _Search:
    def __init__(
        self,
        cases: Sequence[_Case],
        hints: Hints,
        limits: Limits,
        effort: Effort,
    ) -> None:
        self._cases = cases
        self._hints = hints
        self._graph = hints.graph
        self._link = hints.link
        self._limits = limits
        self._effort = effort
        self._best: _Incumbent | None = None
        self._why: InfeasibleError | None = None
        self._hinted = False  # whether the cuts known beforehand were offered
        self._methods: dict[str, None] = {}
        self._order = count()
        self._queue: list[tuple[float, float, int, _Node]] = []

    def run(self) -> Found:
        """The best cut; see `optimal_cut`."""
        closed = np.inf  # the lowest bound of a node that is done with, but was not proven
        for case in self._cases:
            self._push(_Node(case))
        while self._queue and not self._closed(self._queue[0][0]):
            bound, _, _, node = heapq.heappop(self._queue)
            if self._best and self._effort.spent and bound > -np.inf:
                closed = min(closed, bound)
                continue
            if not node.searched and not node.whole:
                node = self._explore(node)
            if node.complete:
                closed = min(closed, self._bound(node))
            elif node.in_turn < np.inf:
                for child in node.children(self._again):
                    self._push(child)
        if self._best is None:
            assert self._why is not None, "no cut was found, and none was infeasible"
            raise self._why
        value = self._best.value
        bound = min([closed, *(item[0] for item in self._queue[:1]), value])
        bound = value if self._closed(bound) else max(bound, 0.0)
        cut = make_cut(
            self._graph,
            self._best.sides,
            self._link,
            name="optimal",
            origin="exact search",
            known=self._best.price,
        )
        return Found(cut, value, bound, ", ".join(self._methods))

    def _push(self, node: _Node) -> None:
        """Of equal bounds, nodes with less to save come first: their cuts tell more of others."""
        saved_s = sum(state.saved_s for state in node.chosen)
        heapq.heappush(self._queue, (self._bound(node), saved_s, next(self._order), node))

    def _closed(self, bound: float) -> bool:
        if self._best is None:
            return False
        return self._best.value - bound <= ROUNDING * abs(self._best.value)

    @property
    def _again(self) -> bool:
        """Whether a search does not depend on what is saved beside it."""
        return self._limits.latency is None and self._limits.energy is None

    def _saved_s(self, node: _Node) -> float:
        """What a cut in the node saves at most."""
        rest = node.case.options[len(node.chosen) :]
        return sum(one.saved_s for one in (*node.chosen, *(options[0] for options in rest)))

    def _bound(self, node: _Node) -> float:
        """No cut in a node has less of the objective."""
        return node.in_turn - self._worth * self._saved_s(node)

    @cached_property
    def _worth(self) -> float:
        """What a second saved is worth, in units of the objective."""
        power = self._graph.power
        worth = {Quantity.LATENCY: 1.0, Quantity.ENERGY: power.idle_w if power else 0.0}
        return worth.get(self._limits.minimise, 0.0)

    def _explore(self, node: _Node) -> _Node:
        """Search a node with nothing in parallel."""
        saved_s, limits = self._saved_s(node), self._limits
        if limits.latency is not None:
            limits = limited(limits, Quantity.LATENCY, limits.latency + saved_s)
        if limits.energy is not None and self._graph.power is not None:
            more = self._graph.power.idle_w * saved_s
            limits = limited(limits, Quantity.ENERGY, limits.energy + more)
        cutoff = np.inf
        if self._best:
            cutoff = self._best.value
            cutoff += self._worth * saved_s
        problem = placed(node.case.problem, node.chosen)
        if problem is None:
            return replace(node, in_turn=np.inf)
        briefly = not node.complete and any(state.sides for state in node.chosen)
        most = _BRIEFLY if briefly else None
        search = SerialSearch(problem, limits, self._effort, self._hints, cutoff, most)
        try:
            optimum = search.run()
        except InfeasibleError as error:
            self._why = self._why or error
            return replace(node, in_turn=np.inf)
        self._methods[optimum.method] = None
        if optimum.x is not None:
            self._offer(_sides(optimum.x))
        node = replace(node, in_turn=max(node.in_turn, optimum.bound), searched=not briefly)
        if not self._hinted and not self._closed(self._bound(node)):
            self._hinted = True
            for sides in self._hints.cuts:
                self._offer(sides)
        return node

    def _offer(self, sides: Sides) -> None:
        cost = price(self._graph, sides, self._link)
        quantities = measured(cost)
        value = quantities[self._limits.minimise]
        if not all_within(quantities, self._limits.most):
            return
        if self._best is None or value < self._best.value * (1 - ROUNDING):
            self._best = _Incumbent(sides, cost, value)


def _sides(x: Ints) -> Sides:
    return tuple(Side.CLOUD if one else Side.EDGE for one in x.tolist())
