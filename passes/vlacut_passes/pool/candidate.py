"""A candidate: a placement with its price over seconds a byte."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vlacut.hardware import Link, link_at
from vlacut.pricing.cost_graph import CostGraph
from vlacut.pricing.loops import Pipelined
from vlacut.pricing.price import price
from vlacut.pricing.regions import Parallel
from vlacut.side import Side

Sides = tuple[Side, ...]
Floats = NDArray[np.float64]

_ANY = Link(1.0, 1.0)


@dataclass(frozen=True)
class Candidate:
    """A placement, and what it costs at every bandwidth.

    Attributes:
        sides: of every task.
        fixed_s: what does not depend on the bandwidth: compute and hops.
        moved: bytes up, and bytes down in the ratio of the two bandwidths, so that the price is
            `fixed_s + moved * seconds a byte up`, less what overlaps.
        edge, cloud: weights held there.
        parallel: what may overlap, over variations of `link`.
        coded: the graph with the flows coded as they are in this candidate; None for no matter.
        over: the link that those codecs are the cheapest for.
    """

    sides: Sides
    fixed_s: float
    moved: float
    edge: frozenset[int]
    cloud: frozenset[int]
    parallel: tuple[Parallel | Pipelined, ...] = ()
    link: Link = _ANY
    coded: CostGraph | None = field(default=None, compare=False, repr=False)
    over: Link | None = field(default=None, compare=False)

    def at(self, seconds_per_byte: Floats | float) -> Floats:
        """The price at these bandwidths."""
        points = np.asarray(seconds_per_byte, dtype=np.float64)
        serial = np.asarray(self.fixed_s + self.moved * points)
        if not self.parallel:
            return serial
        links = [link_at(self.link, point) for point in points.ravel().tolist()]
        saved = [sum(one.saved_s(link) for one in self.parallel) for link in links]
        return np.asarray(serial - np.array(saved).reshape(points.shape))


def make_candidate(
    graph: CostGraph, sides: Sides, link: Link, over: Link | None = None
) -> Candidate:
    """The candidate of a placement, its flows coded as they are in the graph."""
    cost = price(graph, sides, link)
    return Candidate(
        sides,
        cost.local_s + cost.hop_s,
        cost.bytes_up + cost.bytes_down * (link.up / link.down),
        held(graph, sides, Side.EDGE),
        held(graph, sides, Side.CLOUD),
        cost.parallel,
        link,
        graph,
        over or link,
    )


def keeps_pins(graph: CostGraph, sides: Sides) -> bool:
    """Whether every pinned task is on its side."""
    return all(task.pinned in (None, side) for task, side in zip(graph.tasks, sides, strict=True))


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
    graph: CostGraph, chosen: Candidate, others: Sequence[Candidate], points: Sequence[float]
) -> list[Candidate]:
    """Those of the others that no candidate is at least as good as in every way.

    That is: as cheap at every bandwidth of these seconds a byte, without a doubled weight that the
    worse one does without. Of equals the first stays.
    """
    there = np.array(points)
    kept = [chosen]
    order = sorted(others, key=lambda one: (doubled_bytes(graph, chosen, [one]), *one.at(there)))
    for one in order:
        if not any(as_good(other, one, chosen, there) for other in kept):
            kept = [
                chosen,
                *(other for other in kept[1:] if not as_good(one, other, chosen, there)),
                one,
            ]
    return kept[1:]


def as_good(one: Candidate, other: Candidate, chosen: Candidate, there: Floats) -> bool:
    """Whether one is at least as good as the other in every way: see `undominated`."""
    cheap = bool(np.all(one.at(there) <= other.at(there) * (1 + 1e-12)))
    less = one.edge - chosen.edge <= other.edge and one.cloud - chosen.cloud <= other.cloud
    return cheap and less
