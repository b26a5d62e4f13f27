"""Which variable to branch on: any is exact, a good one saves most of the work."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vlacut_passes.partitioning.core import CLOUD, EDGE, Core, Floats, Ints

_LIKE_THE_BEST = 0.9  # of the highest score


@dataclass(frozen=True)
class Order:
    """Of every task, its place in the layer chain, and its phase."""

    place: Ints
    phase: Ints


@dataclass(frozen=True)
class Choice:
    """Candidates: variables that the mix of assignments splits, and that are dear to part from
    their neighbours.

    Of those, the one in the middle of the layer chain, and the outermost ones: what is between two
    on one side tends to follow.

    Attributes:
        share: per variable, how much of the mix has it in the cloud.
        gap_s: between incumbent and bound: no parting needs to be dearer.
    """

    core: Core
    share: Floats
    gap_s: float
    order: Order

    def usual(self, depth: int) -> int:
        """The middle one at the root, the outermost ones in turn further down."""
        best = self._best(np.full(self.core.size, True))
        if depth == 0:
            return int(best[len(best) // 2])
        return int(best[0 if depth % 2 else -1])

    def many(self) -> list[int]:
        """The first, the middle and the last of all, and of every phase."""
        phases = np.unique(self._phase).tolist()
        found: dict[int, None] = {}
        for among in (np.full(self.core.size, True), *(self._phase == one for one in phases)):
            among[[EDGE, CLOUD]] = False
            if among.any():
                best = self._best(among)
                found.update(
                    dict.fromkeys((int(best[0]), int(best[len(best) // 2]), int(best[-1])))
                )
        return list(found)

    def _best(self, among: np.ndarray) -> Ints:
        """Those with a score like the best, in the order of the layer chain."""
        score = np.where(among, self._score, 0.0)
        best = np.flatnonzero(score >= _LIKE_THE_BEST * score.max())
        best = best[(best != EDGE) & (best != CLOUD) & among[best]]
        return best[np.argsort(self._place[best], kind="stable")]

    @cached_property
    def _score(self) -> Floats:
        """Split times dear; where nothing is both, the first of the two that tells any apart."""
        flows = self.core.flows
        dear = np.zeros(self.core.size)
        np.maximum.at(dear, flows.producer, np.minimum(flows.up, flows.down))
        for chain in self.core.chains:
            changed = np.zeros(self.core.size)
            changed[chain.variable] = chain.rate
            dear += changed
        dear = np.minimum(dear, self.gap_s)
        split = np.minimum(self.share, 1.0 - self.share)
        for score in (split * dear, split, dear):
            score[[EDGE, CLOUD]] = 0.0
            if score.max() > 1e-6 * dear.max(initial=0.0):
                return score
        return np.zeros(self.core.size)

    @cached_property
    def _place(self) -> Ints:
        place = np.full(self.core.size, len(self.order.place))
        np.minimum.at(place, self.core.of_task, self.order.place)
        return place

    @cached_property
    def _phase(self) -> Ints:
        phase = np.full(self.core.size, int(self.order.phase.max(initial=0)))
        np.minimum.at(phase, self.core.of_task, self.order.phase)
        return phase
