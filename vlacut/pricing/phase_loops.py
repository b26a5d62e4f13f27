"""Loops whose changes of side all lead one way: their trips follow one another without waiting.

Suppose that every value that crosses within a trip of a loop leaves one and the same side, and that
what is carried stays where it is. Then that side waits for nothing of the other. It runs ahead trip
by trip: its own compute, the link and the other side's compute work at once on different trips.
This is a flow shop of three machines, in which n equal jobs take one of each and n - 1 times the
longest of the three (Johnson, Optimal two- and three-stage production schedules, 1954).

That holds of any number of loops. The price counts it for the `MOST_LEADING` loops of a program
with the most trips, since the search tries every choice of them. It prices others as if they
waited.
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
        before, after: ends of what waits within a trip.
        left, taken: ends of what is carried: left by a trip, taken by the next.
        may_lead: whether it is one of those that can lead one way.
    """

    phase: int
    times: int
    before: Ints
    after: Ints
    left: Ints
    taken: Ints
    may_lead: bool = True

    def one_way(self, x: Ints) -> bool:
        """Whether all changes of side of an assignment lead one way, and nothing carried does."""
        if not self.may_lead or (x[self.left] != x[self.taken]).any():
            return False
        change = x[self.after] - x[self.before]
        return not ((change > 0).any() and (change < 0).any())


@dataclass(frozen=True, kw_only=True)
class Pipelined:
    """A loop whose changes of side all lead one way, a trip before the last.

    Attributes:
        times: trips after the first.
        edge_s, cloud_s: compute by side.
        codec_s: of what crosses, on both sides.
        bytes_up, bytes_down: that cross; one of the two is 0.
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
