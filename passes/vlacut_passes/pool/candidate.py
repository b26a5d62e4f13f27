"""A candidate: a placement with its price as a line over seconds a byte."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlacut.hardware import Link
from vlacut.pricing import CostGraph, Side, price

Sides = tuple[Side, ...]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Candidate:
    """A placement, and what it costs at every bandwidth.

    Attributes:
        sides: of every task.
        fixed_s: what does not depend on the bandwidth: compute and hops.
        moved: bytes up, and bytes down in the ratio of the two bandwidths, so that the price is
            `fixed_s + moved * seconds a byte up`.
        edge, cloud: weights held there.
    """

    sides: Sides
    fixed_s: float
    moved: float
    edge: frozenset[int]
    cloud: frozenset[int]

    def at(self, seconds_per_byte: Floats | float) -> Floats:
        """The price at these bandwidths."""
        return np.asarray(self.fixed_s + self.moved * np.asarray(seconds_per_byte))


def make_candidate(graph: CostGraph, sides: Sides, link: Link) -> Candidate:
    """The candidate of a placement."""
    cost = price(graph, sides, link)
    return Candidate(
        sides,
        cost.edge_s + cost.cloud_s + cost.hop_s,
        cost.bytes_up + cost.bytes_down * (link.up / link.down),
        held(graph, sides, Side.EDGE),
        held(graph, sides, Side.CLOUD),
    )


def held(graph: CostGraph, sides: Sequence[Side], side: Side) -> frozenset[int]:
    """The weights that a side holds."""
    pairs = zip(graph.tasks, sides, strict=True)
    return frozenset(weight for task, home in pairs if home is side for weight in task.weights)


def doubled_bytes(graph: CostGraph, chosen: Candidate, others: Iterable[Candidate]) -> int:
    """Weights that the sides hold for the sake of the others, beyond those of the chosen cut."""
    there = list(others)
    edge = frozenset().union(*(one.edge for one in there)) - chosen.edge
    cloud = frozenset().union(*(one.cloud for one in there)) - chosen.cloud
    return sum(graph.weights[weight] for weight in (*edge, *cloud))


def undominated(
    graph: CostGraph, chosen: Candidate, others: Sequence[Candidate], within: tuple[float, float]
) -> list[Candidate]:
    """Those of the others that no candidate is at least as good as in every way.

    That is: as cheap at both ends of the range, hence at every bandwidth in it, without a doubled
    weight that the worse one does without. Of equals the first stays.
    """
    ends = np.array(within)
    kept = [chosen]
    order = sorted(others, key=lambda one: (doubled_bytes(graph, chosen, [one]), *one.at(ends)))
    for one in order:
        if not any(as_good(other, one, chosen, ends) for other in kept):
            kept = [
                chosen,
                *(other for other in kept[1:] if not as_good(one, other, chosen, ends)),
                one,
            ]
    return kept[1:]


def as_good(one: Candidate, other: Candidate, chosen: Candidate, ends: Floats) -> bool:
    """Whether one is at least as good as the other in every way: see `undominated`."""
    cheap = bool(np.all(one.at(ends) <= other.at(ends) * (1 + 1e-12)))
    less = one.edge - chosen.edge <= other.edge and one.cloud - chosen.cloud <= other.cloud
    return cheap and less
