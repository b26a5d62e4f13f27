"""The Lagrangian relaxation of a problem: a minimum cut for every choice of multipliers.

Two things keep a problem from being a minimum cut: the limits and the peaks. A multiplier prices
what a limited quantity exceeds its limit by. Any mix of paths with weights that add up to the rate
of a chain graph bounds its deepest chain from below. Any mix of the stages of a pipe bounds its
longest stage. What is left is a sum of terms

    w * [x_a = 0 and x_b = 1], w >= 0

over pairs of variables and helpers, which is the weight of a cut between edge and cloud.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vlacut.tensor.numerics import Floats, Ints
from vlacut_passes.partitioning.limits import Quantity
from vlacut_passes.partitioning.solver.mincut import MinCut, min_cut
from vlacut_passes.partitioning.solver.problem.nets import Nets, Sets
from vlacut_passes.partitioning.solver.problem.problem import CLOUD, EDGE, LINEAR, Problem


@dataclass(frozen=True)
class Mix:
    """Multipliers: of every quantity, 1 for the objective; weighted paths (units per change); and
    weights of the stages of every pipe (units per second).

    Attributes:
        constant: what every assignment costs beside them.
    """

    of: Floats
    paths: Sequence[tuple[Ints, float]]
    stages: Sequence[Floats] = ()
    constant: float = 0.0


@dataclass(frozen=True)
class Relaxed:
    """The optimum of a relaxation.

    Attributes:
        bound: in units of the objective; no feasible assignment has less.
        x: the optimal assignment with the smallest cloud.
        cut: on variables and helpers; its residuals are reduced costs.
    """

    bound: float
    x: Ints
    cut: MinCut


@dataclass(frozen=True)
class _Arcs:
    tail: Ints
    head: Ints
    weight: Floats


class Relaxation:
    """The relaxation of a problem; its arcs are laid out once.

    Args:
        problem: what to relax.
        forced: arcs that cost `forced_s` where they are cut, for variables that are to be on a
            side: (EDGE, v) keeps v on the edge, (v, CLOUD) in the cloud.
        forced_s: in units of the objective; as much as no cut of use has.
    """

    def __init__(
        self, problem: Problem, forced: Sequence[tuple[int, int]] = (), forced_s: float = 0.0
    ) -> None:
        self._problem = problem
        self._helpers = problem.size
        self._forced: list[_Arcs] = []
        flows = problem.flows
        self._ends = self._both(flows)
        self._piped = [self._both(pipe.moves) for pipe in problem.pipes]
        on_edge, in_cloud = problem.counted
        if in_cloud:
            self._in_cloud = self._any(problem.users, EDGE, CLOUD)
        if on_edge:
            self._on_edge = self._any(problem.users, CLOUD, EDGE)
        if len(problem.rising[0]):
            high, low = problem.rising[::-1]
            ends = (high == EDGE) | (low == CLOUD)  # of infinite arcs no flow comes to an end
            self._forced.append(_Arcs(high, low, np.where(ends, forced_s, np.inf)))
        if forced:
            tail, head = np.array(forced).T
            self._forced.append(_Arcs(tail, head, np.full(len(tail), forced_s)))

    def _both(self, flows: Nets) -> tuple[Ints, Ints]:
        """Per flow, the nodes whose sides say whether it goes up, and whether it comes down."""
        up = self._any(flows.consumers, EDGE, CLOUD)
        return up, self._any(flows.consumers, CLOUD, EDGE)

    def _any(self, sets: Sets, never: int, always: int) -> Ints:
        """Per set, a node on `always`'s side as soon as one member is; `never` if none can be.

        That is the member itself if there is but one, else a helper.
        """
        member, owner = sets.members, sets.owner
        node = np.full(len(sets), never)
        can = member != never
        count = np.bincount(owner[can], minlength=len(sets))
        node[owner[can]] = member[can]
        node[owner[member == always]] = always
        helped = (count > 1) & (node != always)
        node[helped] = self._helpers + np.arange(int(helped.sum()))
        self._helpers += int(helped.sum())
        kept = can & helped[owner]
        pair = (node[owner[kept]], member[kept])
        tail, head = pair if always == CLOUD else pair[::-1]
        self._forced.append(_Arcs(tail, head, np.full(len(tail), np.inf)))
        return node

    def solve(self, mix: Mix) -> Relaxed:
        """The minimum over all assignments at these multipliers."""
        problem = self._problem
        unary, base = (
            mix.of[list(LINEAR)] @ problem.unary,
            float(mix.of[list(LINEAR)] @ problem.base),
        )
        for pipe, weights in zip(problem.pipes, mix.stages, strict=True):
            unary += weights[:2] @ pipe.unary
            base += float(weights[:2] @ pipe.base)
        gain = np.minimum(unary, 0.0)
        variables = np.arange(problem.size)
        source, sink = np.full(problem.size, EDGE), np.full(problem.size, CLOUD)
        arcs = [
            _Arcs(source, variables, unary - gain),
            _Arcs(variables, sink, -gain),
            *self._moved(mix),
            *self._piped_through(mix),
            *self._held(mix),
            *self._forced,
            *(_both_ways(*path) for path in mix.paths),
        ]
        tail, head, weight = (
            np.concatenate([getattr(part, name) for part in arcs])
            for name in ("tail", "head", "weight")
        )
        kept = (weight > 0) & (tail != head) & (head != EDGE) & (tail != CLOUD)
        allowed = sum(
            float(of) * most for of, most in zip(mix.of, problem.limits.most, strict=True) if most
        )
        offset = base + float(gain.sum()) - allowed + mix.constant
        cut = min_cut(self._helpers, tail[kept], head[kept], weight[kept])
        return Relaxed(offset + cut.value, cut.sink_side[: problem.size], cut)

    def _moved(self, mix: Mix) -> Iterator[_Arcs]:
        flows, (up, down) = self._problem.flows, self._ends
        of_s, of_j = mix.of[Quantity.LATENCY], mix.of[Quantity.ENERGY]
        yield _Arcs(flows.producer, up, of_s * flows.up + of_j * flows.up_j)
        yield _Arcs(down, flows.producer, of_s * flows.down + of_j * flows.down_j)

    def _piped_through(self, mix: Mix) -> Iterator[_Arcs]:
        for pipe, (up, down), weights in zip(
            self._problem.pipes, self._piped, mix.stages, strict=True
        ):
            moves, weight = pipe.moves, float(weights[2])
            yield _Arcs(moves.producer, up, weight * moves.up)
            yield _Arcs(down, moves.producer, weight * moves.down)

    def _held(self, mix: Mix) -> Iterator[_Arcs]:
        problem = self._problem
        on_edge, in_cloud = problem.counted
        if in_cloud:
            source = np.full(len(problem.users), EDGE)
            yield _Arcs(source, self._in_cloud, problem.nbytes * mix.of[Quantity.CLOUD_BYTES])
        if on_edge:
            sink = np.full(len(problem.users), CLOUD)
            yield _Arcs(self._on_edge, sink, problem.edge_nbytes * mix.of[Quantity.EDGE_BYTES])


def _both_ways(path: Ints, weight: float) -> _Arcs:
    one, other = path[:-1], path[1:]
    tail, head = np.concatenate([one, other]), np.concatenate([other, one])
    return _Arcs(tail, head, np.full(len(tail), weight))
