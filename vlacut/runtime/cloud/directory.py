"""The directory: which servers serve which bundle, and how full they are.

Each server has one of its own, and looks there for whom it cannot serve, or another serves better.
What it says is as old as the last report; robots that were sent somewhere, and that no report shows
yet, it counts itself. A report that is not renewed is soon disregarded: its server may be gone.
"""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

_STALE_S = 5.0
_UNDER_WAY_S = 3.0  # that a robot which was sent somewhere may take until a report shows it
_WORTH = 0.5  # of what a robot takes: who gains less is not sent on


@dataclass(frozen=True)
class Standing:
    """How full a server is.

    Attributes:
        address: `HOST:PORT` where robots reach it.
        digests: of the bundles that it takes robots of.
        robots: that it serves.
        most: how many it serves at a time, if their deadlines leave the engines time.
        load: seconds of engines that they take of every second.
        metrics: `HOST:PORT` of its page of metrics; empty if it has none.
    """

    address: str
    digests: frozenset[bytes]
    robots: int
    most: int
    load: float
    metrics: str = ""

    @property
    def fullness(self) -> float:
        """Of its places or of its engines' time, whichever is fuller; above 1 is too much."""
        return max(self.robots / max(1, self.most), self.load)

    def with_more(self, robots: int) -> Standing:
        """With so many more, like those that it has."""
        each = self.load / self.robots if self.robots else 0.0
        return replace(self, robots=self.robots + robots, load=self.load + robots * each)


class Directory:
    """Reports of servers. All methods may be called from any thread, and none waits for anything.

    Args:
        stale_s: seconds after which a report counts no more.
        clock: seconds, which never go back.
        seed: of which of equals is named; servers must not all name the same one.
    """

    def __init__(
        self,
        stale_s: float = _STALE_S,
        clock: Callable[[], float] = time.monotonic,
        seed: int | None = None,
    ) -> None:
        self._stale_s, self._clock = stale_s, clock
        self._reports: dict[str, tuple[Standing, float]] = {}
        self._sent: defaultdict[str, deque[float]] = defaultdict(deque)  # when
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    @property
    def all(self) -> list[Standing]:
        """The reports that count, by address."""
        with self._lock:
            return self._fresh()

    def _fresh(self) -> list[Standing]:
        oldest = self._clock() - self._stale_s
        return [one for _, (one, when) in sorted(self._reports.items()) if when >= oldest]

    def report(self, standing: Standing) -> None:
        """Take what a server says of itself now."""
        with self._lock:
            self._take(standing)

    def replace(self, standings: Iterable[Standing]) -> None:
        """Take what all servers say; those that are not among them have gone."""
        with self._lock:
            named = {one.address: one for one in standings}
            for address in self._reports.keys() - named.keys():
                del self._reports[address]
            for one in named.values():
                self._take(one)

    def _take(self, standing: Standing) -> None:
        before, _ = self._reports.get(standing.address, (standing, 0.0))
        sent = self._sent[standing.address]
        for _ in range(min(len(sent), max(0, standing.robots - before.robots))):
            sent.popleft()  # the first of them have arrived
        self._reports[standing.address] = standing, self._clock()

    def forget(self, address: str) -> None:
        """A server has gone."""
        with self._lock:
            self._reports.pop(address, None)

    def place(self, digest: bytes, mine: Standing | None = None) -> str:
        """The address of the least full server that has room for a robot; empty if none has.

        Args:
            digest: of the robot's bundle.
            mine: the server that asks, if it has room itself: then only of one less full by half of
                what the robot takes, or more.
        """
        most = 1.0
        if mine is not None:
            here = mine.with_more(1).fullness
            most = here - _WORTH * (here - mine.fullness)
        with self._lock:
            found = [
                (
                    one.with_more(self._under_way(one.address) + 1).fullness,
                    self._random.random(),
                    one,
                )
                for one in self._fresh()
                if digest in one.digests
            ]
            fullness, _, best = min(found, default=(2.0, 0.0, None))
            if best is None or fullness > most:
                return ""
            self._sent[best.address].append(self._clock())
            return best.address

    def _under_way(self, address: str) -> int:
        """Robots that were sent there, and that no report shows yet."""
        sent, oldest = self._sent[address], self._clock() - _UNDER_WAY_S
        while sent and sent[0] < oldest:
            sent.popleft()
        return len(sent)
