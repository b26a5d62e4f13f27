"""RAPID's rule (arXiv 2603.07949): ask when the joints say that a moment matters.

Ticks are critical once the importance is above one threshold, until it has been below another for
150 ms. The first critical tick asks for a new chunk at once; the old one plays until it arrives. A
cooldown keeps a critical phase from flooding the link. Otherwise the chunk is played to its end.
"""

from __future__ import annotations

from vlacut.control.situation import Decision, Keep, Request, Situation

HIGH, LOW = 3.0, 1.5
OFF_S = 0.15
COOLDOWN_S = 0.1


class Hysteresis:
    """Whether a phase is critical, by two thresholds of a score."""

    def __init__(self, high: float, low: float, off_s: float = OFF_S) -> None:
        self._high, self._low, self._off_s = high, low, off_s
        self.reset()

    def reset(self) -> None:
        """It is not."""
        self._critical, self._quiet_s = False, 0.0

    def critical(self, score: float, tick_s: float) -> bool:
        """Whether it is in a tick of this score."""
        if score > self._high:
            self._critical, self._quiet_s = True, 0.0
        elif self._critical and score < self._low:
            self._quiet_s += tick_s
            self._critical = self._quiet_s < self._off_s
        else:
            self._quiet_s = 0.0
        return self._critical


class Rapid:
    """See the module's docstring.

    Args:
        high, low: thresholds of the importance score.
        critical, redundant: variants for critical ticks and for a chunk that runs out; None lets
            the session choose.
        cooldown_s: the least seconds between requests; the time of an inference if that is more.
        most_age_s: the age in seconds that a command may have, whatever the joints say; None for
            any.
    """

    def __init__(
        self,
        high: float = HIGH,
        low: float = LOW,
        critical: int | None = None,
        redundant: int | None = None,
        cooldown_s: float = COOLDOWN_S,
        most_age_s: float | None = None,
    ) -> None:
        self._phase = Hysteresis(high, low)
        self._critical, self._redundant = critical, redundant
        self._cooldown_s, self._most_age_s = cooldown_s, most_age_s

    def decide(self, situation: Situation) -> Decision:
        """See `Controller`."""
        buffer = situation.buffer
        critical = self._phase.critical(situation.motion.importance, situation.tick_s)
        if buffer.in_flight_s is not None:
            return Keep()
        step_s = _time(situation, self._critical)
        if critical and buffer.since_request_s > max(self._cooldown_s, step_s):
            return Request(self._critical, preempt=True, why="critical")
        if buffer.runs_out:
            return Request(self._redundant, why="runs out")
        if stale(situation, _time(situation, self._redundant), self._most_age_s):
            return Request(self._redundant, why="age")
        return Keep()

    def reset(self) -> None:
        """See `Controller`."""
        self._phase.reset()


def stale(situation: Situation, step_s: float, most_age_s: float | None) -> bool:
    """Whether a command would be too old before a chunk arrives that is asked for a tick later."""
    if most_age_s is None:
        return False
    return situation.buffer.age_s + step_s + situation.tick_s > most_age_s


def _time(situation: Situation, variant: int | None) -> float:
    return min(situation.times) if variant is None else situation.times[variant]
