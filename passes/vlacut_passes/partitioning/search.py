"""The cheapest cut of a graph, with the proof that there is none cheaper.

1. The graph becomes a `Core`, a variable a task.
2. A Lagrangian relaxation, a minimum cut, bounds the price from below (`dual`), and contracts the
   core: variables whose parting would cost more than the gap become one (`coarsen`). Repeated while
   it helps. Without hops and budget the first minimum cut is the answer; with hops the bound mostly
   meets an assignment's price, which is then proven optimal.
3. What is left is branched on, best bound first: one variable on the edge, or in the cloud. Every
   branch is bounded and contracted in turn; once it is small, it goes to HiGHS (`milp`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from vlacut.errors import InfeasibleError
from vlacut.hardware import Link
from vlacut.pricing import CostGraph, Price, Side, price
from vlacut_passes.partitioning.branching import Choice, Order, make_order
from vlacut_passes.partitioning.coarsen import equal_variables, too_heavy
from vlacut_passes.partitioning.core import CLOUD, EDGE, Core, Floats, Ints, make_core, relabel
from vlacut_passes.partitioning.dual import Dual, Explored, Incumbent, only_cloud, relabelled
from vlacut_passes.partitioning.milp import solve_milp
from vlacut_passes.partitioning.strategies import all_edge, neurosurgeon

SMALL = 150  # variables: from here on HiGHS is faster than further branches
_AGAIN = 0.7  # a core that shrank below this share is worth another relaxation
_FLAT = 0.02  # of the gap: less than this is no rise of the bound
_STALE = 2  # levels without a rise before many variables are tried
_TRIAL_ROUNDS = 2
_TINY = 2e-4  # of the budget
_NOISE = 1e-10  # relative: nothing is cut off by less than this


@dataclass(frozen=True)
class Found:
    """A cut, and the proof of how good it is.

    Attributes:
        sides: of every task.
        price: of the cut.
        bound_s: no feasible cut is cheaper, in seconds; at most `price.total_s`.
    """

    sides: tuple[Side, ...]
    price: Price
    bound_s: float

    @property
    def gap_s(self) -> float:
        """How far the cut may be from the best, in seconds; 0 if it is proven to be the best."""
        return self.price.total_s - self.bound_s


def optimal_cut(
    graph: CostGraph,
    link: Link,
    cloud_weight_budget: int | None = None,
    *,
    time_limit_s: float = 600.0,
) -> Found:
    """The cheapest cut whose distinct cloud weights are at most `cloud_weight_budget` bytes.

    Of cuts that are equally cheap, those with fewer tasks in the cloud are preferred. At the time
    limit, the best cut known is returned with its gap.

    Raises InfeasibleError if the weights of tasks pinned to the cloud exceed the budget.
    """
    budget = cloud_weight_budget
    pinned = price(graph, all_edge(graph, link, budget), link)
    over = 0 if budget is None else pinned.cloud_weight_bytes - budget
    if over > 0:
        raise InfeasibleError(
            f"cloud weights: what is pinned to the cloud holds {pinned.cloud_weight_bytes} bytes, "
            f"{over} more than the budget of {budget}; raise it or unpin"
        )
    deadline = time.monotonic() + time_limit_s
    if budget is not None and (tiny := _tiny(graph, budget)):
        found = _best(graph, link, budget, tiny, deadline)
        if found.price.cloud_weight_bytes <= budget:
            return found
    return _best(graph, link, budget, frozenset(), deadline)


def _tiny(graph: CostGraph, budget: int) -> frozenset[int]:
    """The smallest weights, as many as together are next to nothing beside the budget.

    Shape constants and scales have thousands of readers. A cut that is optimal without counting
    them, and keeps the budget when they are counted, is optimal.
    """
    found, room = [], _TINY * budget
    for weight in sorted(range(len(graph.weights)), key=lambda one: (graph.weights[one], one)):
        room -= graph.weights[weight]
        if room < 0:
            break
        found.append(weight)
    return frozenset(found)


def _best(
    graph: CostGraph, link: Link, budget: int | None, ignored: frozenset[int], deadline: float
) -> Found:
    core = make_core(graph, link, budget, ignored)
    edge = only_cloud(core.size)
    incumbent = Incumbent(core.serial_s(edge) + core.hop_s(edge), edge[core.of_task])
    if core.budget is not None:
        sides = neurosurgeon(graph, link, core.budget)
        x = np.array([side is Side.CLOUD for side in sides], dtype=np.int64)
        incumbent.offer(price(graph, sides, link).total_s, x)
    bound = _Search(graph, core, incumbent, deadline).run()
    sides = tuple(Side.CLOUD if one else Side.EDGE for one in incumbent.x.tolist())
    cost = price(graph, sides, link)
    proven = incumbent.closed_by(bound)
    return Found(sides, cost, cost.total_s if proven else min(bound, cost.total_s))


@dataclass(frozen=True, eq=False)
class _Branch:
    """A part of the assignments: those of a core that do not cut the arc `forced`."""

    core: Core
    paths: list[list[Ints]]
    planes: list[Ints]
    bound: float = -np.inf
    parent_s: float = -np.inf
    forced: tuple[int, int] | None = None
    depth: int = 0
    stale: int = 0


class _Search:
    """Branch and bound. A branch's bound is inherited until it is explored itself."""

    def __init__(self, graph: CostGraph, core: Core, incumbent: Incumbent, deadline: float) -> None:
        self._graph = graph
        self._incumbent = incumbent
        self._deadline = deadline
        self._open = [_Branch(core, [[] for _ in core.chains], [])]

    @cached_property
    def _order(self) -> Order:
        return make_order(self._graph)

    def run(self) -> float:
        """Improve the incumbent until it is optimal or time is up; returns the lower bound.

        In turn, the branch with the lowest bound, which raises the bound of all, and the one with
        the fewest variables, which costs little and often improves the incumbent.
        """
        left = np.inf  # the lowest bound of a branch that HiGHS did not finish
        turn = 0
        while self._open and time.monotonic() < self._deadline:
            keys = (_by_bound, _by_size)
            branch = min(self._open, key=keys[turn % 2])
            turn += 1
            self._open.remove(branch)
            for child in self._explore(branch):
                if child.forced is None:
                    left = min(left, self._exhaust(child))
                else:
                    self._open.append(child)
            self._open = [one for one in self._open if not self._incumbent.closed_by(one.bound)]
        return min([left, self._incumbent.price_s, *(one.bound for one in self._open)])

    def _explore(self, branch: _Branch) -> Iterator[_Branch]:
        """What is left to do in a branch: nothing, a small core for HiGHS, or two branches."""
        while True:
            found = self._dual(branch).run()
            bound = max(branch.bound, found.bound)
            if self._incumbent.closed_by(bound):
                return
            price_s = self._incumbent.price_s * (1 + _NOISE)
            label = equal_variables(branch.core, found.relaxed, price_s, branch.forced)
            if label is None:
                return
            before = branch.core.size
            smaller = self._contract(branch, found, label, bound)
            if smaller is None:
                return
            branch, share = smaller
            if branch.core.size <= SMALL:
                yield branch
                return
            if branch.core.size > _AGAIN * before:
                break
        yield from self._split(branch, share)

    def _dual(self, branch: _Branch) -> Dual:
        return Dual(branch.core, self._incumbent, branch.paths, branch.planes, branch.forced)

    def _contract(
        self, branch: _Branch, found: Explored, label: Ints, bound: float
    ) -> tuple[_Branch, Floats] | None:
        core = relabel(branch.core, label, int(label.max()) + 1)
        if core.budget is not None and core.cloud_bytes(only_cloud(core.size)) > core.budget:
            return None
        heavy = too_heavy(core)
        if heavy is not None:
            core = relabel(core, heavy, int(heavy.max()) + 1)
            label = heavy[label]
        share = np.zeros(core.size)
        np.maximum.at(share, label, found.share)
        planes = [kept for x in found.planes if (kept := _kept(x, label, core.size)) is not None]
        paths = relabelled(branch.paths, label)
        rise = bound - branch.parent_s
        flat = rise < _FLAT * (self._incumbent.price_s - branch.parent_s)
        stale = branch.stale + 1 if flat else 0
        return _Branch(core, paths, planes, bound, bound, None, branch.depth, stale), share

    def _split(self, branch: _Branch, share: Floats) -> Iterator[_Branch]:
        """Two branches. If branching did not raise the bound lately, the best of many twos."""
        gap_s = self._incumbent.price_s - branch.bound
        choice = Choice(branch.core, share, gap_s, self._order)
        if branch.stale < _STALE:
            yield from self._children(branch, choice.usual(branch.depth))
            return
        best: list[_Branch] = []
        best_score = 0.0
        for variable in choice.many():
            pair = [self._tried(child) for child in self._children(branch, variable)]
            score = math.prod(max(child.bound - branch.bound, 1e-3 * gap_s) for child in pair)
            if score > best_score:
                best, best_score = pair, score
        yield from best

    def _children(self, branch: _Branch, variable: int) -> Iterator[_Branch]:
        for forced in ((EDGE, variable), (variable, CLOUD)):
            paths = [list(known) for known in branch.paths]
            yield replace(branch, paths=paths, forced=forced, depth=branch.depth + 1)

    def _tried(self, child: _Branch) -> _Branch:
        found = self._dual(child).run(_TRIAL_ROUNDS)
        return replace(child, bound=max(child.bound, found.bound), planes=list(found.planes))

    def _exhaust(self, branch: _Branch) -> float:
        """Solve a branch with HiGHS; returns its lower bound.

        HiGHS keeps a budget to its tolerance only. A set of weights that exceeds it after all is
        cut off by name, and HiGHS asked again.
        """
        core = branch.core
        covers: list[Ints] = []
        noise = _NOISE * abs(self._incumbent.price_s)
        span = self._incumbent.price_s - branch.bound + noise
        while True:
            seconds = max(self._deadline - time.monotonic(), 0.0)
            solved = solve_milp(core, covers, span, seconds)
            if solved.x is None:
                return max(solved.bound, branch.bound)
            if core.budget is None or core.cloud_bytes(solved.x) <= core.budget:
                break
            covers.append(np.flatnonzero(core.users.highest(solved.x)))
        found_s = core.serial_s(solved.x) + core.hop_s(solved.x)
        self._incumbent.offer(found_s, solved.x[core.of_task])
        if solved.bound >= found_s - 1e-9 * span:
            return np.inf
        return max(solved.bound, branch.bound)


def _by_bound(branch: _Branch) -> tuple[float, int]:
    return branch.bound, -branch.depth


def _by_size(branch: _Branch) -> tuple[int, float]:
    return branch.core.size, branch.bound


def _kept(x: Ints, label: Ints, size: int) -> Ints | None:
    """The assignment in terms of labels; None if it splits one."""
    kept = np.full(size, -1)
    kept[label] = x
    return kept if bool((kept[label] == x).all()) else None
