"""The cloud's clock on the edge: its offset, from exchanges of four times.

The formulas are those of NTP (RFC 5905, section 8). The edge sends at t1 and has the answer at t4,
on its own clock; the cloud has the request at t2 and answers at t3, on its own:

    offset = ((t2 - t1) + (t3 - t4)) / 2        the cloud's clock less the edge's
    delay  = (t4 - t1) - (t3 - t2)

The offset is wrong by half the difference of the two ways, so by at most delay / 2. As NTP's clock
filter does (section 10), the exchange of least delay among the last ones is believed. Times of
arrival are those of a frame's first bytes, so that a large frame makes no slow exchange. If the
offsets of two exchanges differ by more than their errors allow, the clock has jumped, as after a
suspend. Then everything learned before is forgotten.
"""

from __future__ import annotations

from collections import deque
from operator import itemgetter
from typing import NamedTuple

_REMEMBERED = 64


class Exchange(NamedTuple):
    """Four times in nanoseconds: see the module's docstring.

    Attributes:
        t1, t4: when the edge sent, and when it had the answer, on its clock.
        t2, t3: when the cloud had the request, and when it answered, on its clock.
    """

    t1: int
    t2: int
    t3: int
    t4: int

    @property
    def offset_ns(self) -> int:
        """The cloud's clock less the edge's, in nanoseconds: RFC 5905, section 8."""
        return ((self.t2 - self.t1) + (self.t3 - self.t4)) // 2

    @property
    def delay_ns(self) -> int:
        """Nanoseconds on the link, both ways together: RFC 5905, section 8."""
        return (self.t4 - self.t1) - (self.t3 - self.t2)


class CloudClock:
    """The cloud's clock, as the last 64 exchanges show it; one per connection.

    Args:
        first: the exchange of the handshake.

    Attributes:
        offset_ns: the cloud's clock less the edge's, in nanoseconds.
        delay_ns: nanoseconds on the link, both ways together, of the quickest of the last
            exchanges.
    """

    def __init__(self, first: Exchange) -> None:
        self.delay_ns, self.offset_ns = best = first.delay_ns, first.offset_ns
        self._best = best
        self._exchanges = deque((best,), maxlen=_REMEMBERED)

    def add(self, exchange: tuple[int, int, int, int]) -> None:
        """Learn from an exchange: t1 to t4, in nanoseconds."""
        t1, t2, t3, t4 = exchange
        found = delay_ns, offset_ns = (t4 - t1) - (t3 - t2), ((t2 - t1) + (t3 - t4)) // 2
        if 2 * abs(offset_ns - self.offset_ns) > delay_ns + self.delay_ns + 2:  # 2: of rounding
            self._exchanges.clear()
            self._best = found
        forgotten = self._exchanges[0] if len(self._exchanges) == _REMEMBERED else None
        self._exchanges.append(found)
        if delay_ns <= self._best[0]:
            self._best = found
        elif forgotten is self._best:
            self._best = min(self._exchanges, key=itemgetter(0))
        self.delay_ns, self.offset_ns = self._best

    @property
    def error_ns(self) -> int:
        """Nanoseconds by which the offset may be wrong, at most, had the clocks not drifted: half
        the delay.
        """
        return (self.delay_ns + 1) // 2
