"""Which observation an action answers, where requests of several steps are in flight."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from vlacut.plans.state import StateRule
from vlacut.runtime.edge.report import Made


class Flight:
    """The requests of an episode whose actions are still to come.

    Args:
        warming: of the plan: how many steps a request's action comes after its observation.
    """

    def __init__(self, warming: int) -> None:
        self._captured: deque[int] = deque(maxlen=warming + 1)

    def begin(self) -> None:
        """Begin an episode: what is in flight is dropped."""
        self._captured.clear()

    def answered(self, made: Made) -> Made:
        """What a step made, with the time of the observation that it answers; without an action as
        long as no request has its own. A step that had to build on the initial state has lost what
        was in flight.
        """
        captured = self._captured
        if made.rule is StateRule.RESET:
            captured.clear()
        captured.append(made.captured_ns)
        if len(captured) < (captured.maxlen or 0):
            return replace(made, action={})
        return replace(made, captured_ns=captured[0])
