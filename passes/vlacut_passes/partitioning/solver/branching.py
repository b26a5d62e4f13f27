"""Which variable to branch on: any is exact, a good one saves most of the work."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vlacut.pricing.cost_graph import CostGraph
from vlacut.tensor.numerics import Floats, Ints
from vlacut_passes.partitioning.layer_chain import layer_chain
from vlacut_passes.partitioning.solver.problem.problem import CLOUD, EDGE, Problem

_LIKE_THE_BEST = 0.9  # of the highest score
_MOST_PROBED = 12
_HEAVY = 0.1  # of the heaviest
_SPLIT = 1e-6
_NECKS = 0.05  # share of a phase's tasks that are certainly necks
_NARROW = 1.1  # and what is hardly wider is one too


@dataclass(frozen=True)
class Order:
    """Of every task, its place in the layer chain, and whether it is a neck."""

    place: Ints
    neck: NDArray[np.bool_]


def make_order(graph: CostGraph) -> Order:
    """The order of a graph's tasks."""
    phase = np.array([task.phase for task in graph.tasks])
    return Order(layer_chain(graph).rank, _necks(graph, phase))


def _necks(graph: CostGraph, phase: Ints) -> NDArray[np.bool_]:
    """Tasks behind which a phase, taken as a chain, is cheap to cut: the ends of layers."""
    across = np.zeros(len(graph.tasks) + 1)
    for flow in graph.flows:
        inside = [one for one in flow.consumers if phase[one] == phase[flow.producer]]
        if inside and max(inside) > flow.producer:
            across[flow.producer] += flow.nbytes * flow.count
            across[max(inside)] -= flow.nbytes * flow.count
    across = np.cumsum(across)[:-1]
    neck = np.zeros(len(graph.tasks), dtype=bool)
    for one in np.unique(phase):
        tasks = phase == one
        neck |= tasks & (across <= _NARROW * np.quantile(across[tasks], _NECKS))
    return neck


@dataclass(frozen=True)
class Choice:
    """Candidates: variables that the mix of assignments splits, and that are dear to part from
    their neighbours.

    Of those, the one in the middle of the layer chain, and the outermost ones: what is between two
    on one side tends to follow.

    Attributes:
        share: per variable, how much of the mix has it in the cloud.
        gap: between incumbent and bound: no parting needs to be dearer.
    """

    problem: Problem
    share: Floats
    gap: float
    order: Order

    def variable(self, depth: int) -> int:
        """The middle one at the root, the outermost ones in turn further down."""
        best = self._best()
        if depth == 0:
            return int(best[len(best) // 2])
        return int(best[0 if depth % 2 else -1])

    def spread(self) -> Ints:
        """Candidates from all over the layer chain, the order being that of halving it again and
        again.
        """
        best = self._best()
        best = best[np.linspace(0, len(best) - 1, min(len(best), _MOST_PROBED)).round().astype(int)]
        halves = [int(f"{place:010b}"[::-1], 2) for place in range(len(best))]
        ordered: Ints = best[np.argsort(halves, kind="stable")]
        return ordered

    def ends(self) -> list[int]:
        """The outermost ones of the layer chain, of the variables with heavy weights that the mix
        splits; none if there is no limit on weights.
        """
        heaviest = np.zeros(self.problem.size)
        users, owner = self.problem.users.members, self.problem.users.owner
        np.maximum.at(heaviest, users, self.problem.nbytes[owner].astype(np.float64))
        heaviest[(self.share < _SPLIT) | (self.share > 1.0 - _SPLIT)] = 0.0
        heaviest[[EDGE, CLOUD]] = 0.0
        heavy = np.flatnonzero(heaviest > _HEAVY * heaviest.max(initial=0.0))
        ordered = heavy[np.argsort(self._place[heavy], kind="stable")]
        last = len(ordered) - 1
        places = [
            place for place in (0, last // 4, last // 2, 3 * last // 4, last) if 0 <= place <= last
        ]
        return list(dict.fromkeys(ordered[places].tolist()))

    def _best(self) -> Ints:
        """Those with a score like the best, in the order of the layer chain."""
        score = self._score
        if (necks := np.where(self._neck, score, 0.0)).any():
            score = necks
        best = np.flatnonzero(score >= _LIKE_THE_BEST * score.max())
        best = best[(best != EDGE) & (best != CLOUD)]
        ordered: Ints = best[np.argsort(self._place[best], kind="stable")]
        return ordered

    @cached_property
    def _score(self) -> Floats:
        """Split times dear; where nothing is both, the first of the two that tells any apart."""
        flows = self.problem.flows
        dear = np.zeros(self.problem.size)
        np.maximum.at(dear, flows.producer, np.minimum(flows.up, flows.down))
        for chain in self.problem.chains:
            changed = np.zeros(self.problem.size)
            changed[chain.variable] = chain.rate
            dear += changed
        dear = np.minimum(dear, self.gap)
        split = np.minimum(self.share, 1.0 - self.share)
        for score in (split * dear, split, dear):
            score[[EDGE, CLOUD]] = 0.0
            if score.max() > 1e-6 * dear.max(initial=0.0):
                return score
        return np.zeros(self.problem.size)

    @cached_property
    def _neck(self) -> NDArray[np.bool_]:
        neck = np.zeros(self.problem.size, dtype=bool)
        neck[self.problem.of_task[self.order.neck]] = True
        return neck

    @cached_property
    def _place(self) -> Ints:
        place = np.full(self.problem.size, len(self.order.place))
        np.minimum.at(place, self.problem.of_task, self.order.place)
        return place
