"""Dominance: whether a cut is beaten by not cutting, and the bandwidth at which that changes.

Cuts are compared as they are, at other bandwidths than the one they were chosen for: both
directions scaled alike, the round trip as it is. `vlacut.sweep` chooses anew at every bandwidth.
"""

from __future__ import annotations

from dataclasses import dataclass

from vlacut.hardware import Link
from vlacut.pricing import Price

_ROUNDING = 1e-12  # relative: what two ways to add up a price may differ by


@dataclass(frozen=True)
class Standing:
    """A cut against one that leaves everything on one machine.

    Attributes:
        other: name of that one.
        ratio: its latency over the cut's; above 1 the cut is faster.
        why_not: the constraint that the other breaks; empty if it breaks none.
        changes_at: uplink bandwidth, in bytes a second, at which the faster one becomes the slower
            one; 0 if there is none.
    """

    other: str
    ratio: float
    why_not: str
    changes_at: float


def changes_at(one: Price, other: Price, link: Link) -> float:
    """See `Standing.changes_at`. The prices are those at the link.

    A price is fixed seconds plus bytes over bandwidths, so two of them are equal at one bandwidth
    at most: where the seconds that one has more are what the other's bytes take more.
    """
    fixed = _fixed_s(one) - _fixed_s(other)
    moved = _moved(other, link) - _moved(one, link)
    if abs(fixed) <= _ROUNDING * one.total_s or fixed * moved <= 0:
        return 0.0
    return moved / fixed


def _fixed_s(price: Price) -> float:
    return price.local_s + price.hop_s


def _moved(price: Price, link: Link) -> float:
    """Bytes, those of the downlink as so many of the uplink as take as long."""
    return price.bytes_up + price.bytes_down * link.up / link.down
