"""A step within its deadline, whatever the cloud does; the order is that of `session`."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from vlacut.errors import DeadlineMissed, WireError
from vlacut.plans.plan import Plan
from vlacut.plans.state import StateRule
from vlacut.runtime.edge.makers import Alone, Together
from vlacut.runtime.edge.race import Race
from vlacut.runtime.edge.report import Made, Overrun, Source
from vlacut.runtime.edge.request import StepRequest
from vlacut.runtime.tally import Tally

_SPARE = 0.05  # of the deadline: waits end late, and threads start late, on a busy machine
# Times what the edge alone takes, that a hedged first step waits beyond its deadline, and as long
# as that deadline at least: threads start late on a busy machine.
_LATE = 4.0

_log = logging.getLogger("vlacut.edge")


class Fallbacks:
    """Makes a step by the plan's variant, else by the edge alone, else repeats the last action.

    Args:
        plan: of the bundle.
        together: makes it by the plan's variant.
        alone: makes it by the all-edge variant; None if there is none, or nothing crosses.
        deadline: seconds within which a step returns.
        hedge: whether the edge makes it alone beside the cloud, once it must to be in time.
    """

    def __init__(
        self, plan: Plan, together: Together, alone: Alone | None, deadline: float, hedge: bool
    ) -> None:
        self._repeated = StateRule.KEPT if plan.states else StateRule.NONE
        self._together = together
        self._alone = alone
        self._deadline = deadline
        self._spare_s = _SPARE * deadline
        self._race: Race[Source, Made] | None = None
        if hedge:
            self._race = Race[Source, Made]((Source.CHOSEN, Source.ALONE))

    def make(self, request: StepRequest, until: float, last: Made | None) -> tuple[Made, str]:
        """The action, and why it is not by the plan's variant; empty if it is.

        Args:
            request: the step.
            until: its deadline, in seconds on the clock of `time.monotonic`.
            last: the action before it; None if there was none.

        Raises DeadlineMissed if there is neither an action in time nor one before it; what ends a
        step for good, such as this side's BackendError or an InputError, as `Together.make` does.
        """
        if self._race is not None and self._alone is not None:
            return self._hedge(self._race, self._alone, request, until, last)
        turn = self._turn_to_alone(until, request)
        try:
            return self._together.make(request, turn), ""
        except (DeadlineMissed, WireError) as error:
            reason = str(error)
        # Where the edge could not make it alone, its turn is the deadline.
        if self._alone is not None and time.monotonic() < turn + self._spare_s < until:
            return self._alone.make(request), reason
        if self._alone is not None and last is None:
            return self._alone.make(request), f"{reason}; late, for there was no action before it"
        return self._repeat(request, last, reason), reason

    def close(self, seconds: float) -> bool:
        """Start nothing more; whether no engine of a hedged step runs after so many seconds."""
        return self._race is None or self._race.close(seconds)

    def _turn_to_alone(self, until: float, request: StepRequest) -> float:
        """When the edge must begin alone to meet the deadline; the deadline if it cannot."""
        left = until - time.monotonic() - self._spare_s
        runs = self._alone.runs(request.moment) if self._alone else 0
        if self._alone is None or not runs or not self._alone.fits(left / runs):
            return until
        return until - self._spare_s - self._alone.seconds * runs

    def _hedge(
        self,
        race: Race[Source, Made],
        alone: Alone,
        request: StepRequest,
        until: float,
        last: Made | None,
    ) -> tuple[Made, str]:
        """The plan's variant, and from the last moment on the edge alone beside it."""
        race.start()
        race.enter(Source.CHOSEN, lambda: self._together.make(request, until))
        turn = self._turn_to_alone(until, request)
        won = race.winner(turn)
        if won is None and turn < until:
            race.enter(Source.ALONE, lambda: alone.make(request))
            won = race.winner(until)
            _log.info("step %d hedged; %s won", request.step, won[0] if won else "neither")
        if won is None and last is None:  # nothing to repeat: late is better than nothing
            race.enter(Source.ALONE, lambda: alone.make(request))
            takes_s = alone.seconds * max(1, alone.runs(request.moment))
            won = race.winner(until + max(self._deadline, _LATE * takes_s))
        if won is None:
            reason = race.why_not()
            return self._repeat(request, last, reason), reason
        return won[1], "" if won[0] is Source.CHOSEN else "hedged: the edge alone was first"

    def _repeat(self, request: StepRequest, last: Made | None, reason: str) -> Made:
        """The last action, marked stale. Raises DeadlineMissed if there is none."""
        if last is None:
            raise DeadlineMissed(
                f"no action for step {request.step} within {self._deadline:g} s, and none before "
                f"it to fall back on: {reason}"
            )
        return replace(last, source=Source.STALE, tally=Tally(), rule=self._repeated, again=0)


def overrun_of(
    began_ns: int, returned_ns: int, deadline: float | None, ran: Sequence[tuple[str, int, int]]
) -> Overrun | None:
    """By how much a step returned after its deadline, and what ran then; None if it did not.

    Args:
        began_ns: when it was asked for, in nanoseconds on the clock of `time.perf_counter_ns`.
        returned_ns: when it returned.
        deadline: seconds; None for no limit.
        ran: of the edge's engines: name of the part, start and end on the same clock.
    """
    if deadline is None:
        return None
    due = began_ns + round(deadline * 1e9)
    if returned_ns <= due:
        return None
    late = {name: min(end, returned_ns) - max(start, due) for name, start, end in ran if end > due}
    engine = max(late, key=lambda name: late[name], default="")
    return Overrun((returned_ns - due) * 1e-9, engine, late.get(engine, 0) * 1e-9)
