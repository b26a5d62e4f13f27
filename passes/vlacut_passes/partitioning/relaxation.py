"""The Lagrangian relaxation of a core: a minimum cut for every choice of multipliers.

Two things keep a core from being a minimum cut: the budget and the deepest chains. The budget is
priced at `byte_s` seconds a byte beyond it. The deepest chain is bounded from below by any mix of
paths with weights that add up to the chain's rate. What is left is a sum of terms

    w * [x_a = 0 and x_b = 1], w >= 0

over pairs of variables and helpers, which is the weight of a cut between edge and cloud.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlacut_passes.partitioning.core import CLOUD, EDGE, Core, Floats, Ints, Sets
from vlacut_passes.partitioning.mincut import MinCut, min_cut


@dataclass(frozen=True)
class Mix:
    """Multipliers: the price of a byte of the budget, and weighted paths (seconds a change)."""

    byte_s: float
    paths: Sequence[tuple[Ints, float]]


@dataclass(frozen=True)
class Relaxed:
    """The optimum of a relaxation.

    Attributes:
        bound: in seconds; no feasible assignment is cheaper.
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
    """The relaxation of a core; its arcs are laid out once."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._helpers = core.size
        self._forced: list[_Arcs] = []
        flows = core.flows
        up = self._any(flows.consumers, EDGE, CLOUD)
        down = self._any(flows.consumers, CLOUD, EDGE)
        self._held = self._any(core.users, EDGE, CLOUD)
        gain = np.minimum(core.unary, 0.0)
        variables = np.arange(core.size)
        source, sink = np.full(core.size, EDGE), np.full(core.size, CLOUD)
        self._fixed = [
            _Arcs(source, variables, core.unary - gain),
            _Arcs(variables, sink, -gain),
            _Arcs(flows.producer, up, flows.up),
            _Arcs(down, flows.producer, flows.down),
            *self._forced,
        ]
        self._base = core.base + float(gain.sum())

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
        core = self._core
        dearness = core.nbytes.astype(np.float64) * mix.byte_s
        held = _Arcs(np.full(len(core.users), EDGE), self._held, dearness)
        arcs = [*self._fixed, held, *(_both_ways(*path) for path in mix.paths)]
        tail, head, weight = (
            np.concatenate([getattr(part, name) for part in arcs])
            for name in ("tail", "head", "weight")
        )
        kept = (weight > 0) & (tail != head) & (head != EDGE) & (tail != CLOUD)
        cut = min_cut(self._helpers, tail[kept], head[kept], weight[kept])
        spared = mix.byte_s * (core.budget or 0)
        return Relaxed(self._base + cut.value - spared, cut.sink_side[: core.size], cut)


def _both_ways(path: Ints, weight: float) -> _Arcs:
    one, other = path[:-1], path[1:]
    tail, head = np.concatenate([one, other]), np.concatenate([other, one])
    return _Arcs(tail, head, np.full(len(tail), weight))
