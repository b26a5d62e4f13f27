"""Turns: engines are run one at a time, robots whose runs meet in a part run it together.

The rule. Whose step is due first has the next turn; a robot without a deadline counts as due a
second after it asked. Nobody is passed over more than twice by who asked later. A robot has one run
in the queue at most, so however many frames somebody sends, the others have their turns.

Who has the turn takes others along that wait for the same part, in the order in which they are due,
if its bundle has engines for several (`batches`): as many as make a robot's run take least, as far
as each keeps its deadline that would keep it alone. It waits for more company only as long as
robots are expected that twice came as soon (`habits`), at most for half of what they save the
engines, while nobody of another bundle waits, and not beyond what the deadlines of those who wait
with it leave. Alone it never waits.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from vlacut.backend import Tensor
from vlacut.runtime.cloud.asked import Asked, Work, run_all
from vlacut.runtime.cloud.batches import Batches
from vlacut.runtime.cloud.habits import Expected, Habit

_PASSED = 2  # turns of others who asked later


class Turns:
    """The queue of a server's engines. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._came = threading.Condition(self._lock)
        self._taken = False
        self._since = 0.0
        self._waiting: list[Asked] = []
        self._expected = Expected()
        self._look_at = 0  # how many wait, when who has the turn and waits for company looks again
        self._leading: object = None  # whose company that is

    @property
    def mine_s(self) -> float:
        """Seconds of engines that count for the calling thread's robot so far: of a run for
        several, its share.
        """
        seconds: float = getattr(self._mine, "seconds", 0.0)
        return seconds

    @property
    def lasts_s(self) -> float:
        """How long the current turn has lasted, in seconds; 0 if nobody has one."""
        with self._lock:
            return time.monotonic() - self._since if self._taken else 0.0

    def forget(self, habit: Habit) -> None:
        """A robot has left: nobody waits for it any more."""
        with self._lock:
            self._expected.forget(habit)

    def run(self, asked: Asked) -> Mapping[str, Tensor]:
        """What the run makes, once it had its turn. Raises what the engine does."""
        with self._lock:
            if asked.habit is not None:
                self._expected.came(asked.habit)
            if self._taken:
                self._waiting.append(asked)
                if len(self._waiting) >= self._look_at or asked.company is not self._leading:
                    self._came.notify()
            else:
                self._taken, asked.leads = True, True
                self._since = time.monotonic()
        if not asked.leads:
            asked.called.wait()
        if asked.leads:
            self._lead(asked)
        self._mine.seconds = self.mine_s + asked.share_s
        if asked.error is not None:
            raise asked.error
        return asked.made

    def alone(self, work: Callable[[], None]) -> None:
        """Do something that keeps the engines busy, once it is its turn. Raises what it does."""
        self.run(Asked(Work(work), {}, math.inf, 0.0))

    def _lead(self, asked: Asked) -> None:
        members = self._members(asked)
        start = time.monotonic()
        try:
            run_all(members)
        finally:
            share = (time.monotonic() - start) / len(members)
            for one in members:
                one.share_s = share
            self._pass_on(members)
            for one in members:
                one.called.set()

    def _members(self, asked: Asked) -> list[Asked]:
        """Who runs together: the one whose turn it is first."""
        batches = asked.batches
        if batches is None:
            return [asked]
        with self._lock:
            self._wait_for_more(asked, batches)
            others = [one for one in self._waiting if one.batches is batches]
            members = batches.choose([asked, *sorted(others, key=lambda one: one.rank)])
            for one in members[1:]:
                self._waiting.remove(one)
            return members

    def _wait_for_more(self, asked: Asked, batches: Batches) -> None:
        """Give those who are expected the time to ask."""
        begun = now = time.monotonic()
        while True:
            there = [asked, *(one for one in self._waiting if one.batches is batches)]
            until, coming = self._expected.wait(batches, len(there), begun)
            until = min(until, *(one.latest_s - batches.seconds[batches.most] for one in there))
            if now >= until or any(one.company is not asked.company for one in self._waiting):
                return  # if there are others, the engines are theirs, too
            self._look_at, self._leading = len(self._waiting) + coming, asked.company
            self._came.wait(until - now)
            now = time.monotonic()

    def _pass_on(self, members: Sequence[Asked]) -> None:
        """Give the turn to the next; those who had it are done."""
        with self._lock:
            for one in members:
                if one.habit is not None:
                    self._expected.left(one.habit, one.between, one.then)
            if not self._waiting:
                self._taken = False
                return
            late = [one for one in self._waiting if one.passed >= _PASSED]
            if late:
                chosen = min(late, key=lambda one: one.asked_s)
            else:
                chosen = min(self._waiting, key=lambda one: one.rank)
            self._waiting.remove(chosen)
            for one in self._waiting:
                one.passed += one.asked_s < chosen.asked_s
            self._since = time.monotonic()
            chosen.leads = True
            chosen.called.set()
