"""Turns: engines are run one at a time, robots whose runs meet in a part run it together.

The rule. Whose step is due first has the next turn; a robot without a deadline counts as due a
second after it asked. Nobody is passed over more than twice by who asked later. A robot has one run
in the queue at most, so however many frames somebody sends, the others have their turns.

Who has the turn takes others along that wait for the same part, in the order in which they are due,
if its bundle has engines for several (`batches`): as many as make a robot's run take least, as far
as each keeps its deadline that would keep it alone. It waits for more company only while others of
its bundle are in a step and nobody of another waits, at most for a twentieth of the part's time,
and not beyond what its deadline leaves. Alone it never waits.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from vlacut.backend import Tensor
from vlacut.runtime.cloud.asked import Asked, Work, run_all
from vlacut.runtime.cloud.batches import Batches

_PASSED = 2  # turns of others who asked later
_PATIENCE = 0.05  # of the part's time, that company is waited for


class Turns:
    """The queue of a server's engines. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._came = threading.Condition(self._lock)
        self._taken = False
        self._since = 0.0
        self._waiting: list[Asked] = []
        self._stepping: Counter[int] = Counter()

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

    @contextmanager
    def stepping(self, company: object) -> Iterator[None]:
        """Meanwhile a robot of a bundle is in a step, and may ask for a run."""
        with self._lock:
            self._stepping[id(company)] += 1
        try:
            yield
        finally:
            with self._lock:
                self._stepping[id(company)] -= 1
                self._came.notify_all()  # one less to wait for

    def run(self, asked: Asked) -> Mapping[str, Tensor]:
        """What the run makes, once it had its turn. Raises what the engine does."""
        with self._lock:
            if self._taken:
                self._waiting.append(asked)
                self._came.notify_all()
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
            self._pass_on()
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
        """Give those of the bundle who are between two runs the time to ask."""
        now = time.monotonic()
        spare = asked.latest_s - now - batches.seconds[batches.most]
        until = now + min(spare, _PATIENCE * batches.seconds[1])
        while now < until:
            if any(one.company is not asked.company for one in self._waiting):
                return  # the engines are theirs, too
            there = 1 + sum(one.batches is batches for one in self._waiting)
            asking = 1 + sum(one.company is asked.company for one in self._waiting)
            if there >= batches.most or asking >= self._stepping[id(asked.company)]:
                return
            self._came.wait(until - now)
            now = time.monotonic()

    def _pass_on(self) -> None:
        """Give the turn to the next."""
        with self._lock:
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
