"""Habits: which robots are expected to ask for a run soon, by how long they paused before."""

from __future__ import annotations

import math
import time

from vlacut.runtime.cloud.batches import Batches

_WORTH = 0.5  # of the engines' time that company saves, that is waited for it
_UNKNOWN = math.inf, math.inf

Between = tuple[str, str]  # the part of a run, and that of the next


class Habit:
    """How long a robot pauses from one run to the next, by the parts that these are of.

    Attributes:
        next: of the part that it asks for next; None while it runs, waits, or that has no batches.
        back_s: when it will have asked, by `time.monotonic`, if it pauses as long as the longer of
            the last two times between these parts; infinite before.
    """

    def __init__(self) -> None:
        self.next: Batches | None = None
        self.back_s = math.inf
        self._pauses: dict[Between, tuple[float, float]] = {}
        self._between: Between | None = None
        self._since_s = 0.0

    def came(self, now: float) -> None:
        """It asks."""
        self.next = None
        if self._between is not None:
            _, last = self._pauses.get(self._between, _UNKNOWN)
            self._pauses[self._between] = last, now - self._since_s

    def left(self, now: float, between: Between, then: Batches | None) -> None:
        """Its run has ended, and it is between two parts; `then` are the batches of the second."""
        self._between, self._since_s = between, now
        self.next, self.back_s = then, now + max(self._pauses.get(between, _UNKNOWN))


class Expected:
    """The robots that are between two runs. Used by who holds the lock of `Turns`."""

    def __init__(self) -> None:
        self._away: dict[Habit, None] = {}

    def came(self, habit: Habit) -> None:
        """A robot asks."""
        self._away.pop(habit, None)
        habit.came(time.monotonic())

    def left(self, habit: Habit, between: Between, then: Batches | None) -> None:
        """A robot's run has ended."""
        habit.left(time.monotonic(), between, then)
        self._away[habit] = None

    def forget(self, habit: Habit) -> None:
        """A robot has left."""
        self._away.pop(habit, None)

    def wait(self, batches: Batches, there: int, begun_s: float) -> tuple[float, int]:
        """Until when it pays to wait for company, by `time.monotonic`, and how many then come.

        Waiting is paid by those who are there, and what it saves the engines is everybody's: the
        run of those who come. Half of that is waited at most, for who is expected within it, and
        for who is late as long from when it was expected.

        Args:
            batches: of the part that is to run.
            there: how many ask for it.
            begun_s: since when they wait.
        """
        soon_s = _WORTH * batches.saved(there, 1)
        backs = sorted(
            one.back_s
            for one in self._away
            if one.next is batches and one.back_s + soon_s > begun_s
        )
        until, coming = -math.inf, 0
        for more, back_s in enumerate(backs[: batches.most - there], 1):
            worth_s = _WORTH * batches.saved(there, more)
            if back_s < begun_s + worth_s:
                until, coming = max(until, min(back_s, begun_s) + worth_s), more
        return until, coming
