"""Controllers that look only at the buffer and the time."""

from __future__ import annotations

from vlacut.control.situation import Decision, Keep, Request, Situation


class WhenEmpty:
    """Asks when the executor runs out of commands: the next inference as late as it may be."""

    def decide(self, situation: Situation) -> Decision:
        """See `Controller`."""
        buffer = situation.buffer
        if buffer.runs_out and buffer.in_flight_s is None:
            return Request(why="runs out")
        return Keep()

    def reset(self) -> None:
        """See `Controller`."""


class Periodic:
    """Asks every so many seconds, as soon as no inference is in flight; and when it runs out.

    Args:
        period_s: 0 for one inference after the other.
    """

    def __init__(self, period_s: float = 0.0) -> None:
        self._period_s = period_s

    def decide(self, situation: Situation) -> Decision:
        """See `Controller`."""
        buffer = situation.buffer
        if buffer.in_flight_s is not None:
            return Keep()
        # Half a tick early is nearer to the period than half a tick late.
        if buffer.since_request_s + situation.tick_s / 2 >= self._period_s:
            return Request(why="period")
        return Request(why="runs out") if buffer.runs_out else Keep()

    def reset(self) -> None:
        """See `Controller`."""
