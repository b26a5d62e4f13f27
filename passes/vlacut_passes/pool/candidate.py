"""A candidate: a cut with its price over seconds per byte."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vlacut.hardware import Link, Side, link_at
from vlacut.pricing.cost_graph import CostGraph
from vlacut.pricing.cut import Cut, Sides
from vlacut.tensor.numerics import ROUNDING, Floats


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A cut with what it costs at every bandwidth.

    Attributes:
        cut: priced over `link`.
        edge, cloud: weights held there.
        link: the bandwidths are variations of it.
        over: the link that its codecs are the cheapest for.
    """

    cut: Cut
    edge: frozenset[int]
    cloud: frozenset[int]
    link: Link
    over: Link

    @property
    def sides(self) -> Sides:
        """Of every task."""
        return self.cut.sides

    @property
    def fixed_s(self) -> float:
        """What does not depend on the bandwidth: compute and hops."""
        return self.cut.price.local_s + self.cut.price.hop_s

    @property
    def moved(self) -> float:
        """Bytes up, and bytes down in the ratio of the two bandwidths.

        So the price is `fixed_s + moved * seconds per byte up`, less what overlaps.
        """
        price = self.cut.price
        return price.bytes_up + price.bytes_down * (self.link.up / self.link.down)

    def at(self, seconds_per_byte: Floats | float) -> Floats:
        """The price at these bandwidths."""
        points = np.asarray(seconds_per_byte, dtype=np.float64)
        serial = np.asarray(self.fixed_s + self.moved * points)
        parallel = self.cut.price.parallel
        if not parallel:
            return serial
        links = [link_at(self.link, point) for point in points.ravel().tolist()]
        saved = [sum(one.saved_s(link) for one in parallel) for link in links]
        return np.asarray(serial - np.array(saved).reshape(points.shape))


def make_candidate(graph: CostGraph, cut: Cut, link: Link, over: Link | None = None) -> Candidate:
    """The candidate of a cut of the graph that is priced over the link."""
    return Candidate(
        cut=cut,
        edge=held(graph, cut.sides, Side.EDGE),
        cloud=held(graph, cut.sides, Side.CLOUD),
        link=link,
        over=over or link,
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
    return sum(
        graph.bytes_on(side)[weight]
        for side, more in ((Side.EDGE, edge), (Side.CLOUD, cloud))
        for weight in more
    )


def undominated(
    graph: CostGraph, chosen: Candidate, others: Sequence[Candidate], points: Sequence[float]
) -> list[Candidate]:
    """Those of the others that no candidate is at least as good as in every way.

    That is: as cheap at every bandwidth of these seconds per byte, without a doubled weight that
    the worse one does without. Of equals the first stays.
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
    cheap = bool(np.all(one.at(there) <= other.at(there) * (1 + ROUNDING)))
    less = one.edge - chosen.edge <= other.edge and one.cloud - chosen.cloud <= other.cloud
    return cheap and less
