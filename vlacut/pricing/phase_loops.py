"""Loops whose changes of side all lead one way: their trips follow one another without waiting.

Suppose that all values that cross within a trip of a loop leave the same side, and that carried
values stay on their side. Then that side never waits for the other. It runs ahead trip by trip: its
compute, the link and the other side's compute work at once on different trips. This is a flow shop
of three machines. In it, n equal jobs take the sum of the three times, and n - 1 times the longest
of them (Johnson, Optimal two- and three-stage production schedules, 1954).

This holds for any number of loops. The price counts it for the `MOST_LEADING` loops with the most
trips, because the search tries every choice of them. It prices the others as if they waited.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vlacut.hardware import Link
from vlacut.tensor.numerics import Ints

MOST_LEADING = 3


@dataclass(frozen=True, kw_only=True)
class PhaseLoop:
    """What waits for what in a phase of several trips, by task.

    Attributes:
        phase: its phase.
        times: trips after the first.
        before, after: the two tasks of every dependency within a trip.
        left, taken: the two tasks of everything that is carried: a trip leaves it, the next one
            takes it.
        may_lead: whether it is one of the loops that can lead one way.
    """

    phase: int
    times: int
    before: Ints
    after: Ints
    left: Ints
    taken: Ints
    may_lead: bool = True

    def one_way(self, x: Ints) -> bool:
        """Whether all changes of side in an assignment lead one way and nothing carried crosses."""
        if not self.may_lead or (x[self.left] != x[self.taken]).any():
            return False
        change = x[self.after] - x[self.before]
        return not ((change > 0).any() and (change < 0).any())


@dataclass(frozen=True, kw_only=True)
class Pipelined:
    """A loop whose changes of side all lead one way; the figures are per trip before the last.

    Attributes:
        times: trips after the first.
        edge_s, cloud_s: seconds of compute by side.
        codec_s: seconds in the codecs of what crosses, on both sides.
        bytes_up, bytes_down: bytes that cross; one of the two is 0.
    """

    times: int
    edge_s: float
    cloud_s: float
    codec_s: float
    bytes_up: int
    bytes_down: int

    def saved_s(self, link: Link) -> float:
        """Seconds of a control step by which this is shorter than one thing after the other."""
        moved_s = self.codec_s + self.bytes_up / link.up + self.bytes_down / link.down
        stages = self.edge_s, moved_s, self.cloud_s
        return self.times * (sum(stages) - max(stages))

    def bends(self, link: Link) -> list[float]:
        """Seconds per byte up at which the saving changes its slope, the downlink scaled alike."""
        room = max(self.edge_s, self.cloud_s) - self.codec_s
        nbytes = self.bytes_up + self.bytes_down * (link.up / link.down)
        return [room / nbytes] if room > 0 and 0 < nbytes < math.inf else []
