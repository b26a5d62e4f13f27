"""Dominance: whether not cutting beats a cut, and the bandwidth at which that changes.

The same cuts are compared at other bandwidths than the one they were chosen for. Both directions
scale alike, and the round trip stays. `vlacut.compiler.sweep` chooses anew at every bandwidth.
"""

from __future__ import annotations

from dataclasses import dataclass

from vlacut.hardware import Link, link_at
from vlacut.pricing.price import Price
from vlacut.tensor.numerics import ROUNDING

_LEAST_S = 1e-9  # what takes less, as a model that is constant, counts as this: ratios stay finite


@dataclass(frozen=True)
class Standing:
    """A cut against one that leaves everything on one machine.

    Attributes:
        other: name of that one.
        ratio: the other's latency over the cut's, each at least a nanosecond; above 1 the cut is
            faster.
        why_not: the constraint that the other breaks; empty if it breaks none.
        changes_at: the uplink bandwidth, in bytes per second, at which the faster one becomes the
            slower one; 0 if there is none.
    """

    other: str
    ratio: float
    why_not: str
    changes_at: float


def latency_ratio(one: Price, other: Price) -> float:
    """See `Standing.ratio`: of the cut `one` and of the other."""
    return max(other.total_s, _LEAST_S) / max(one.total_s, _LEAST_S)


def changes_at(one: Price, other: Price, link: Link) -> float:
    """See `Standing.changes_at`. The prices are those at the link.

    Between their bends, both prices are lines over seconds per byte. If there are several such
    bandwidths, the result is the nearest one, as a factor.
    """
    now = 1 / link.up
    met = crossings(one, other, link)
    return 1 / min(met, key=lambda place: max(place / now, now / place)) if met else 0.0


def crossings(one: Price, other: Price, link: Link) -> list[float]:
    """Seconds per byte up at which two prices change places, the downlink scaled alike."""
    places = sorted({0.0, *one.bends(link), *other.bends(link)})
    ends = [*places[1:], max(places[-1], 1 / link.up) * 2]
    met = []
    for low, high in zip(places, ends, strict=True):
        first, last = (_apart(one, other, link_at(link, place)) for place in (low, high))
        alike = abs(last - first) <= ROUNDING * one.over(link_at(link, high))
        if not first or alike:
            continue
        place = low - first * (high - low) / (last - first)
        if low < place and (place <= high or high == ends[-1]):
            met.append(place)
    return met


def _apart(one: Price, other: Price, link: Link) -> float:
    """Seconds that the other takes more; none if that may be rounding."""
    apart = other.over(link) - one.over(link)
    return apart if abs(apart) > ROUNDING * one.total_s else 0.0
