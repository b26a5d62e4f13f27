"""Dominance: whether a cut is beaten by not cutting, and the bandwidth at which that changes.

Cuts are compared as they are, at other bandwidths than the one they were chosen for: both
directions scaled alike, the round trip as it is. `vlacut.sweep` chooses anew at every bandwidth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from vlacut.hardware import Link
from vlacut.pricing import CostGraph, Side, price

_LOWEST, _HIGHEST = 1e3, 1e12  # bytes a second
_STEP = 10 ** (1 / 16)
_SAME = 1e-12  # relative: sums in another order


@dataclass(frozen=True)
class Standing:
    """A cut against one that leaves everything on one machine.

    Attributes:
        other: name of that one.
        ratio: its latency over the cut's; above 1 the cut is faster.
        why_not: the constraint that the other breaks; empty if it breaks none.
        changes_at: uplink bandwidth, in bytes a second, nearest to the link's, at which the faster
            one becomes the slower one; 0 if there is none from 1 kB/s to 1 TB/s.
    """

    other: str
    ratio: float
    why_not: str
    changes_at: float


def changes_at(graph: CostGraph, cut: Sequence[Side], other: Sequence[Side], link: Link) -> float:
    """See `Standing.changes_at`: bisected on `pricing.price` between steps of 15 %."""

    def ahead(up: float) -> int:
        scaled = replace(link, up=up, down=up * link.down / link.up)
        mine, its = (price(graph, sides, scaled).total_s for sides in (cut, other))
        return 0 if abs(mine - its) <= _SAME * its else 1 if mine < its else -1

    found = (_first_change(ahead, link.up, step) for step in (_STEP, 1 / _STEP))
    changes = (up for up in found if up)
    return min(changes, key=lambda up: max(up / link.up, link.up / up), default=0.0)


def _first_change(ahead: Callable[[float], int], start: float, step: float) -> float:
    """Where `ahead` first has another sign than at the start, that way, else 0."""
    before, sign = start, ahead(start)
    while _LOWEST <= before <= _HIGHEST:
        after = before * step
        found = ahead(after)
        if sign and found == -sign:
            return _bisect(ahead, sign, before, after)
        before, sign = after, sign or found
    return 0.0


def _bisect(ahead: Callable[[float], int], sign: int, before: float, after: float) -> float:
    """The bandwidth, to 12 digits, between one where `ahead` is `sign` and one where it is not."""
    while abs(after - before) > 1e-12 * before:
        middle = (before + after) / 2
        if middle in (before, after):
            break
        if ahead(middle) == -sign:
            after = middle
        else:
            before = middle
    return (before + after) / 2
