"""Branch and bound: improves an incumbent until it is optimal, or its effort is spent.

The Lagrangian relaxation (`dual`) bounds every branch, and reduced costs contract it (`coarsen`).
Once a branch is small, it goes to HiGHS (`milp`). Two branches differ in one variable: it is on the
edge, or in the cloud.

Before it branches, the search probes variables from all over the layer chain. If the bound of one
side is not below the incumbent, the variable is on the other side. All such variables are fixed at
once. So a budget that some layers must leave the cloud for is not searched layer by layer. Where
weights are limited, layers mostly leave from the ends of the chain. There the search tries both
sides of a few variables, and branches on the one with the best two bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from vlacut.tensor.numerics import Floats, Ints
from vlacut_passes.partitioning.limits import Quantity, within
from vlacut_passes.partitioning.solver.branching import Choice, Order
from vlacut_passes.partitioning.solver.coarsen import equal_variables, too_heavy
from vlacut_passes.partitioning.solver.dual import Dual, Explored
from vlacut_passes.partitioning.solver.effort import CUT, Effort
from vlacut_passes.partitioning.solver.incumbent import Incumbent
from vlacut_passes.partitioning.solver.milp import Cover, cover, solve_milp
from vlacut_passes.partitioning.solver.planes import CuttingPlanes
from vlacut_passes.partitioning.solver.problem.depths import Span, equal_within, step
from vlacut_passes.partitioning.solver.problem.problem import (
    CLOUD,
    EDGE,
    Problem,
    only_cloud,
    relabel,
)

SMALL = 150  # variables: from here on HiGHS is faster than further branches
_ROUND_EVERY = 4  # levels
ROUNDED = 120  # variables: so small a problem is worth a better incumbent
_AGAIN = 0.85  # a problem that shrank below this share is worth another relaxation
_INTEGRAL = 1e-6
_GIVE_UP = 4  # probes without any success
DEAR = 0.3  # of the gap
_MOST_DEPTHS = 8  # beyond, depths are not branched on
_NOISE = 1e-10  # relative: nothing is cut off by less than this


@dataclass(frozen=True, eq=False)
class _Branch:
    """A part of the assignments: those of a problem that do not cut the arcs `forced`."""

    problem: Problem
    planes: CuttingPlanes
    spans: tuple[Span, ...]
    bound: float = -np.inf
    forced: tuple[tuple[int, int], ...] = ()
    depth: int = 0


class BranchAndBound:
    """The search of one problem. A branch's bound is inherited until it is explored itself.

    Args:
        order: makes the order in which tasks are branched on, once it is needed.
        problem: what to minimise.
        incumbent: an assignment that keeps the limits; it is improved in place.
        effort: how much may be done; the root is bounded whatever is left.
        enough: the search may stop once the incumbent is as low, or the bound is above it.
    """

    def __init__(
        self,
        order: Callable[[], Order],
        problem: Problem,
        incumbent: Incumbent,
        effort: Effort,
        enough: float | None = None,
    ) -> None:
        self._order = order
        self._incumbent = incumbent
        self._effort = effort
        self._enough = enough
        self._bounded = False  # the root is, whatever the effort
        self._left = np.inf  # the lowest bound of a branch that HiGHS did not finish
        chains = problem.chains
        self._open = [
            _Branch(problem, CuttingPlanes([[] for _ in chains]), (Span(),) * len(chains))
        ]

    @property
    def bound(self) -> float:
        """No feasible assignment has less of the objective."""
        return min([self._left, self._incumbent.value, *(one.bound for one in self._open)])

    def run(self, most: int | None = None) -> bool:
        """Explore branches, at most so many, until the search is over; whether it is.

        In turn, the branch with the lowest bound, which raises the bound of all, and the one with
        the fewest variables, which costs little and often improves the incumbent.
        """
        turn = 0
        while not self._over() and turn != most:
            keys = (_by_bound, _by_size)
            branch = min(self._open, key=keys[turn % 2])
            turn += 1
            self._open.remove(branch)
            self._open += self._explore(branch)
            self._bounded = True
            self._open = [one for one in self._open if not self._incumbent.closed_by(one.bound)]
        return self._over()

    def _over(self) -> bool:
        late = self._bounded and self._effort.spent
        if late or not self._open or self._enough is None:
            return late or not self._open
        return self._incumbent.value <= self._enough or self.bound > self._enough

    def _explore(self, branch: _Branch) -> Iterator[_Branch]:
        """What is left to do in a branch: nothing, or two branches."""
        while True:
            explored = self._dual(branch).run()
            self._spend(explored)
            branch = replace(branch, bound=max(branch.bound, explored.bound))
            if self._incumbent.closed_by(branch.bound):
                return
            if branch.depth % _ROUND_EVERY == 0:
                self._round(branch, explored.share)
            value = self._incumbent.value + _NOISE * abs(self._incumbent.value)
            label = equal_variables(branch.problem, explored.relaxed, value, branch.forced)
            if label is None:
                return
            before = branch.problem.size
            contracted = _contracted(branch, label, explored.share)
            if contracted is None:
                return
            branch, share = contracted
            if branch.problem.size <= SMALL:
                self._left = min(self._left, self._exhaust(branch))
                return
            if branch.problem.size > _AGAIN * before:
                break
        yield from self._split(branch, share)

    def _split(self, branch: _Branch, share: Floats) -> Iterator[_Branch]:
        gap = self._incumbent.value - branch.bound
        chain = _chain_to_split(branch, share, gap)
        if chain is not None:
            yield from _by_depth(branch, chain)
            return
        choice = Choice(branch.problem, share, gap, self._order())
        fixed = self._fixed(branch, choice)
        if fixed:
            yield replace(
                branch,
                planes=reduce(CuttingPlanes.where, fixed, branch.planes),
                forced=(*branch.forced, *fixed),
            )
            return
        yield from self._parted(branch, choice)

    def _fixed(self, branch: _Branch, choice: Choice) -> list[tuple[int, int]]:
        """Arcs that nothing better than the incumbent cuts, found by trying what the mix of
        assignments has less of.
        """
        fixed: list[tuple[int, int]] = []
        for tried, variable in enumerate(choice.spread().tolist()):
            if tried == _GIVE_UP and not fixed:
                break
            rare, other = (EDGE, variable), (variable, CLOUD)
            if choice.share[variable] < 0.5:
                rare, other = other, rare
            if self._incumbent.closed_by(self._tried(branch, rare, learn=False).bound):
                fixed.append(other)
        return fixed

    def _parted(self, branch: _Branch, choice: Choice) -> list[_Branch]:
        """The branch parted by the variable of which both sides raise the bound most."""
        best, most = list[_Branch](), -1.0
        for variable in dict.fromkeys([*choice.ends(), choice.variable(branch.depth)]):
            parts = [self._tried(branch, arc) for arc in ((EDGE, variable), (variable, CLOUD))]
            gains = [min(one.bound, self._incumbent.value) - branch.bound for one in parts]
            score = 5 * min(gains) + max(gains)  # Achterberg et al., Branching rules revisited
            if score > most:
                best, most = parts, score
        return best

    def _tried(self, branch: _Branch, arc: tuple[int, int], learn: bool = True) -> _Branch:
        """The assignments of a branch that do not cut an arc, with a first bound."""
        child = replace(
            branch,
            planes=branch.planes.where(arc),
            forced=(*branch.forced, arc),
            depth=branch.depth + 1,
        )
        explored = self._dual(child).run(1, learn=learn)
        self._spend(explored)
        return replace(child, bound=max(branch.bound, explored.bound))

    def _dual(self, branch: _Branch) -> Dual:
        return Dual(branch.problem, self._incumbent, branch.planes, branch.spans, branch.forced)

    def _spend(self, explored: Explored) -> None:
        """Count the minimum cuts of a relaxation."""
        self._effort.spend(sum(CUT + len(one.cut.tail) / 2 for one in explored.relaxed))

    def _round(self, branch: _Branch, share: Floats) -> None:
        """Improve the incumbent by the best assignment of what the mix splits, the rest as it is,
        if that is a small problem.
        """
        label = np.arange(branch.problem.size)
        label[share < _INTEGRAL] = EDGE
        label[share > 1.0 - _INTEGRAL] = CLOUD
        label[EDGE], label[CLOUD] = EDGE, CLOUD
        kept, label = np.unique(label, return_inverse=True)
        if 2 < len(kept) <= ROUNDED:
            problem = relabel(branch.problem, label.astype(np.int64), len(kept))
            if _fits(problem):
                self._exhaust(replace(branch, problem=problem))

    def _exhaust(self, branch: _Branch) -> float:
        """Solve a branch with HiGHS; returns its lower bound.

        HiGHS keeps a limit to its tolerance only. An assignment that exceeds one after all is cut
        off, and HiGHS asked again, as long as there is effort left.
        """
        problem = branch.problem
        covers: list[Cover] = []
        span = self._incumbent.value - branch.bound + _NOISE * abs(self._incumbent.value)
        while True:
            solved = solve_milp(problem, covers, span, self._effort)
            self._effort.spend(CUT + solved.work)
            if solved.x is None:
                return max(solved.bound, branch.bound)
            quantities = problem.quantities(solved.x, problem.peak_s(solved.x))
            broken = _broken(problem, quantities)
            if broken is None:
                break
            if self._effort.spent:
                return max(solved.bound, branch.bound)
            covers.append(cover(problem, solved.x, broken))
        value = float(quantities[problem.limits.minimise])
        self._incumbent.offer(value, solved.x[problem.of_task])
        if solved.bound >= value - 1e-9 * span:
            return np.inf
        return max(solved.bound, branch.bound)


def _chain_to_split(branch: _Branch, share: Floats, gap: float) -> int | None:
    """The chain graph with the highest rate, if a change on its deepest chain is dear and the mix
    of assignments splits it.
    """
    weighs = {Quantity.LATENCY: 1.0, Quantity.ENERGY: branch.problem.idle_w}
    second = weighs.get(branch.problem.limits.minimise, 0.0)
    split = np.minimum(share, 1.0 - share) > _INTEGRAL
    rates = [
        second * chain.rate
        if span.low < min(span.high, _MOST_DEPTHS) and split[chain.variable].any()
        else 0.0
        for chain, span in zip(branch.problem.chains, branch.spans, strict=True)
    ]
    if not second or max(rates, default=0.0) <= DEAR * gap:
        return None
    return rates.index(max(rates))


def _by_depth(branch: _Branch, chain: int) -> Iterator[_Branch]:
    """Two branches: the deepest chain is as deep as it must be at least, or deeper."""
    span = branch.spans[chain]
    above = span.low + step(branch.problem.chains[chain])
    for half in (Span(span.low, span.low), Span(above, span.high)):
        spans = (*branch.spans[:chain], half, *branch.spans[chain + 1 :])
        child = replace(branch, spans=spans, depth=branch.depth + 1)
        joined = _joined(child, chain)
        if joined is not None:
            yield joined


def _joined(branch: _Branch, chain: int) -> _Branch | None:
    """The branch with what is equal at such depths merged; None if edge and cloud are."""
    problem = branch.problem
    label = equal_within(problem.chains[chain], problem.size, branch.spans[chain].high)
    if label[EDGE] == label[CLOUD]:
        return None
    size = int(label.max()) + 1
    if size == problem.size:
        return branch
    planes = branch.planes.relabelled(label, size)
    forced = tuple((int(label[tail]), int(label[head])) for tail, head in branch.forced)
    if (EDGE, CLOUD) in forced:
        return None
    return replace(branch, problem=relabel(problem, label, size), planes=planes, forced=forced)


def _contracted(branch: _Branch, label: Ints, share: Floats) -> tuple[_Branch, Floats] | None:
    """The branch with equal variables merged, and its share; None if a side cannot hold what must
    be there.
    """
    problem = relabel(branch.problem, label, int(label.max()) + 1)
    if not _fits(problem):
        return None
    heavy = too_heavy(problem)
    if heavy is not None:
        problem = relabel(problem, heavy, int(heavy.max()) + 1)
        label = heavy[label]
    mixed = np.zeros(problem.size)
    np.maximum.at(mixed, label, share)
    planes = branch.planes.relabelled(label, problem.size)
    return replace(branch, problem=problem, planes=planes, forced=()), mixed


def _broken(problem: Problem, quantities: Floats) -> Quantity | None:
    """The first limit an assignment breaks."""
    for one, most in zip(Quantity, problem.limits.most, strict=True):
        if most is not None and not within(one, float(quantities[one]), most):
            return one
    return None


def _fits(problem: Problem) -> bool:
    """Whether what must be on a side fits there."""
    cloudless = only_cloud(problem.size)
    edgeless = (np.arange(problem.size) != EDGE).astype(np.int64)
    limits = problem.limits
    cloud = limits.cloud_bytes is None or problem.cloud_bytes(cloudless) <= limits.cloud_bytes
    edge = limits.edge_bytes is None or problem.edge_bytes(edgeless) <= limits.edge_bytes
    return cloud and edge


def _by_bound(branch: _Branch) -> tuple[float, int]:
    return branch.bound, -branch.depth


def _by_size(branch: _Branch) -> tuple[int, float]:
    return branch.problem.size, branch.bound
