"""Service: the bytes a link carries over time, which is the integral of a trace's rate.

This is the service curve of network calculus. A message that starts at `start` is through when the
link has carried as many bytes since then. A trace starts again at its end, as mahimahi's mm-link.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate

from vlacut.errors import HardwareError
from vlacut.hardware.trace import Trace


class Service:
    """What a link carries from second 0 of a trace on; the trace repeats.

    Args:
        trace: rates in bytes per second.
        share: the share of these rates that is left to the bytes of messages (`Framing.share`).

    Attributes:
        seconds: how long the trace lasts.
        nbytes: what the link carries in that time.

    Raises HardwareError if the trace carries nothing at all: no message would ever arrive.
    """

    def __init__(self, trace: Trace, share: float = 1.0) -> None:
        self._rates = [rate * share for rate in trace.rates]
        self._times = [0.0, *accumulate(trace.seconds)]
        moved = (rate * spent for rate, spent in zip(self._rates, trace.seconds, strict=True))
        self._moved = [0.0, *accumulate(moved)]
        self.seconds, self.nbytes = self._times[-1], self._moved[-1]
        if self.nbytes <= 0:
            raise HardwareError("a trace that carries nothing from start to end: nothing arrives")

    def rate(self, at: float) -> float:
        """Bytes per second at a time."""
        return self._rates[self._interval(at % self.seconds)]

    def carried(self, until: float) -> float:
        """Bytes from second 0 to a time."""
        rounds, within = divmod(until, self.seconds)
        index = self._interval(within)
        since = within - self._times[index]
        return rounds * self.nbytes + self._moved[index] + since * self._rates[index]

    def finish(self, start: float, nbytes: float) -> float:
        """The time when bytes that start at `start` are through; `start` itself for no bytes."""
        if nbytes <= 0:
            return start
        rounds, within = divmod(start, self.seconds)
        index = self._interval(within)
        rate = self._rates[index]
        if rate and within + nbytes / rate <= self._times[index + 1]:
            return start + nbytes / rate
        left = self._moved[index] + (within - self._times[index]) * rate + nbytes
        more, rest = divmod(left, self.nbytes)
        if not rest:  # through when the last of a round is, not when the next one begins
            more, rest = more - 1, self.nbytes
        last = bisect_left(self._moved, rest) - 1
        offset = self._times[last] + (rest - self._moved[last]) / self._rates[last]
        return max(start, (rounds + more) * self.seconds + offset)

    def _interval(self, within: float) -> int:
        return min(bisect_right(self._times, within), len(self._rates)) - 1


def constant(rate: float) -> Service:
    """A link of one rate, in bytes per second of messages."""
    return Service(Trace((rate,), (1.0,)))
