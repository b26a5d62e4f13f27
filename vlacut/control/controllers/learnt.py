"""The learnt risk as a trigger, with a bound on the age of commands beside it."""

from __future__ import annotations

from vlacut.control.controllers.rapid import COOLDOWN_S, stale
from vlacut.control.signals.risk import RiskModel, RiskSignals
from vlacut.control.situation import Decision, Keep, Request, Situation

MOST_AGE_S = 1.0


class Risk:
    """Asks when the risk of playing on passes the model's threshold.

    Args:
        model: the risk, fitted on episodes.
        variant: the variant to ask; None lets the session choose.
        cooldown_s: the least seconds between requests; the time of an inference if that is more.
        most_age_s: the age in seconds that a command may have, whatever the joints say.
    """

    def __init__(
        self,
        model: RiskModel,
        variant: int | None = None,
        cooldown_s: float = COOLDOWN_S,
        most_age_s: float = MOST_AGE_S,
    ) -> None:
        self._model, self._variant = model, variant
        self._cooldown_s, self._most_age_s = cooldown_s, most_age_s
        self._signals = RiskSignals()

    def decide(self, situation: Situation) -> Decision:
        """See `Controller`."""
        buffer = situation.buffer
        risk = float(self._model.risk(self._signals.features(situation.motion, situation.ahead)))
        if buffer.in_flight_s is not None:
            return Keep(f"risk {risk:.2f}")
        times = situation.times
        step_s = min(times) if self._variant is None else times[self._variant]
        cooled = buffer.since_request_s > max(self._cooldown_s, step_s)
        if risk >= self._model.threshold and cooled:
            return Request(self._variant, preempt=True, why=f"risk {risk:.2f}")
        if buffer.runs_out:
            return Request(self._variant, why="runs out")
        if stale(situation, step_s, self._most_age_s):
            return Request(self._variant, why="age")
        return Keep(f"risk {risk:.2f}")

    def reset(self) -> None:
        """See `Controller`."""
        self._signals.reset()
