"""The best cut of a graph within limits, with the proof that there is none better.

A cut costs what it costs with its sides working in turn (`serial`), less what the states of its
sections save (`overlap`). So the best cut of some states is the best one in turn with the tasks
that make these states held, and a bound on that, less what the states save, bounds all cuts in
them. States are branched on section by section, the lowest bound first; a section without a state
saves nothing, which every cut may do. Most searches end at once: what a state saves is less than
what it costs.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from vlacut.errors import InfeasibleError
from vlacut.hardware import Link
from vlacut.pricing import CostGraph, price
from vlacut_passes.partitioning.limits import Limits, Quantity, all_within, limited, measured
from vlacut_passes.partitioning.overlap import State, agree, placed, states
from vlacut_passes.partitioning.serial import Found, SerialSearch, Sides
from vlacut_passes.partitioning.strategies import BASELINES

_ROUNDING = 1e-12  # relative: what two ways to add up a price may differ by
_NONE = State()


def optimal_cut(
    graph: CostGraph,
    link: Link,
    limits: Limits | None = None,
    *,
    time_limit_s: float = 60.0,
    starts: Sequence[Sides] = (),
) -> Found:
    """The cut within the limits that has the least of the objective.

    Of cuts that are equally good, those with fewer tasks in the cloud are preferred. At the time
    limit, the best cut known is returned with its bound. `starts` are cuts to start from.

    Raises InfeasibleError if no cut keeps the limits: which one binds, and by how much.
    """
    asked, deadline = limits or Limits(), time.monotonic() + time_limit_s
    options = [found for one in graph.sections if (found := states(graph, one, link))]
    if not options:
        best = SerialSearch(graph, link, asked, deadline, starts).run()
        return replace(best, price=price(graph, best.sides, link))
    options.sort(key=lambda found: -found[0].saved_s)
    return _Search(graph, link, asked, deadline, options, starts).run()


@dataclass(frozen=True)
class _Node:
    """Cuts in these states of the first sections.

    Attributes:
        bound: no cut in these states has less of the objective.
    """

    chosen: tuple[State, ...]
    bound: float


class _Search:
    def __init__(
        self,
        graph: CostGraph,
        link: Link,
        limits: Limits,
        deadline: float,
        options: Sequence[Sequence[State]],
        starts: Sequence[Sides],
    ) -> None:
        self._graph = graph
        self._link = link
        self._limits = limits
        self._deadline = deadline
        self._options = options
        self._starts = list(starts)
        self._best: Found | None = None
        self._why: InfeasibleError | None = None
        self._methods: dict[str, None] = {}

    def run(self) -> Found:
        """The best cut; see `optimal_cut`."""
        order = count()
        queue: list[tuple[float, int, _Node]] = []
        closed = np.inf  # the lowest bound of a node that is done with, but was not proven
        heapq.heappush(queue, (-np.inf, next(order), _Node((), -np.inf)))
        while queue and not self._closed(queue[0][0]):
            node = heapq.heappop(queue)[2]
            if self._best and time.monotonic() >= self._deadline:
                closed = min(closed, node.bound)
                continue
            bound = self._explore(node)
            if len(node.chosen) == len(self._options):
                closed = min(closed, bound)
            elif bound < np.inf:
                for chosen in self._children(node):
                    heapq.heappush(queue, (bound, next(order), _Node(chosen, bound)))
        if self._best is None:
            assert self._why is not None, "no cut was found, and none was infeasible"
            raise self._why
        value = self._best.value
        bound = min([closed, *(item[0] for item in queue[:1]), value])
        bound = value if self._closed(bound) else max(bound, 0.0)
        return replace(self._best, bound=bound, method=", ".join(self._methods))

    def _closed(self, bound: float) -> bool:
        if self._best is None:
            return False
        return self._best.value - bound <= _ROUNDING * abs(self._best.value)

    def _children(self, node: _Node) -> Iterator[tuple[State, ...]]:
        for state in (_NONE, *self._options[len(node.chosen)]):
            if agree(node.chosen, state):
                yield (*node.chosen, state)

    def _explore(self, node: _Node) -> float:
        """Search a node with nothing in parallel; a bound of all that is in it."""
        credit_s = sum(state.saved_s for state in node.chosen)
        credit_s += sum(options[0].saved_s for options in self._options[len(node.chosen) :])
        goal = self._limits.minimise
        credit = credit_s if goal is Quantity.LATENCY else 0.0
        limits = self._limits
        if limits.latency is not None:
            limits = limited(limits, Quantity.LATENCY, limits.latency + credit_s)
        cutoff = self._best.value + credit if self._best else np.inf
        graph = placed(self._graph, node.chosen)
        starts = [*self._starts, *([self._best.sides] if self._best else [])]
        search = SerialSearch(graph, self._link, limits, self._deadline, starts, cutoff)
        try:
            found = search.run()
        except InfeasibleError as error:
            self._why = self._why or error
            return np.inf
        self._methods[found.method] = None
        self._offer(found.sides, found.method)
        if not node.chosen:
            for sides in (*self._starts, *self._baselines()):
                self._offer(sides, found.method)
        return max(node.bound, found.bound - credit)

    def _baselines(self) -> Iterator[Sides]:
        for cutter in BASELINES.values():
            yield cutter(self._graph, self._link, self._limits.cloud_bytes)

    def _offer(self, sides: Sides, method: str) -> None:
        cost = price(self._graph, sides, self._link)
        found = measured(cost)
        value = found[self._limits.minimise]
        if not all_within(found, self._limits.most):
            return
        if self._best is None or value < self._best.value * (1 - _ROUNDING):
            self._best = Found(sides, cost, value, -np.inf, method)
