"""Growth: how many robots a GPU serves in time, and how evenly servers share those that come.

Both are computed, and nothing waits. Engines are one queue in the order of asking, as the server
runs them (`vlacut.runtime.cloud.turns`); who sends whom where is the runtime's own directory, on a
clock of its own.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from vlacut.runtime.cloud.directory import Directory, Standing

_STEPS = 2000
_RARE = 1e-3
_MOST = 1 << 16
_DIGEST = bytes(32)


@dataclass(frozen=True)
class Demand:
    """What a robot asks for.

    Attributes:
        period_s: seconds between two of its steps.
        cloud_s: seconds of the cloud's engines in a step.
        rest_s: seconds of a step elsewhere: the edge's engines, and the link.
        deadline_s: seconds within which a step has to be there.
        jitter_s: up to so many seconds a step comes later than its period says, at random.
    """

    period_s: float
    cloud_s: float
    rest_s: float
    deadline_s: float
    jitter_s: float = 0.0

    @property
    def admitted(self) -> int:
        """Robots that a server admits, by its engines' time over deadlines (Liu and Layland)."""
        return int(self.deadline_s / self.cloud_s + 1e-9)


def late_share(robots: int, demand: Demand, steps: int = _STEPS, seed: int = 0) -> float:
    """The share of steps that come after their deadline, where so many robots share a GPU.

    Each begins at a time of its own within its period. A step waits for those that asked before:
    the n-th ends at max over k <= n of (arrival_k + (n - k + 1) cloud_s), Lindley's recursion.

    Args:
        robots: how many.
        demand: of each.
        steps: of each that are looked at.
        seed: of phases and jitter.
    """
    numbers = np.random.default_rng(seed)
    due = numbers.random(robots)[:, None] * demand.period_s + demand.period_s * np.arange(steps)
    arrivals = np.sort((due + numbers.random(due.shape) * demand.jitter_s).ravel())
    order = np.arange(arrivals.size) * demand.cloud_s
    ends = np.maximum.accumulate(arrivals - order) + order + demand.cloud_s
    return float(np.mean(ends - arrivals + demand.rest_s > demand.deadline_s))


def robots_per_gpu(demand: Demand, rare: float = _RARE) -> int:
    """The most robots of which no larger share of steps is late than `rare`; by bisection."""
    if late_share(1, demand) > rare:
        return 0
    fits, fails = 1, 2
    while fails < _MOST and late_share(fails, demand) <= rare:
        fits, fails = fails, 2 * fails
    while fails - fits > 1:
        middle = (fits + fails) // 2
        if late_share(middle, demand) <= rare:
            fits = middle
        else:
            fails = middle
    return fits


@dataclass
class _Server:
    directory: Directory
    robots: int = 0


class Site:
    """Servers that share robots, on a clock that this moves.

    Args:
        servers: how many.
        most: robots of each.
        report_s: seconds between two reports of each, by which all hear of it.
        seed: of what is random.
    """

    def __init__(self, servers: int, most: int, report_s: float = 0.5, seed: int = 0) -> None:
        self._now, self._most, self._report_s = 0.0, most, report_s
        self._random = random.Random(seed)
        self._servers = {
            f"s{index}:1": _Server(Directory(clock=lambda: self._now, seed=index))
            for index in range(servers)
        }
        self._reported = 0.0
        self._report()

    @property
    def robots(self) -> list[int]:
        """Of each server."""
        return [one.robots for one in self._servers.values()]

    def come(self, robots: int, per_second: float) -> int:
        """Let robots come, each to a server at random; how many of them found no room."""
        refused = 0
        for _ in range(robots):
            self._now += 1 / per_second
            if self._now - self._reported >= self._report_s:
                self._report()
            refused += not self._place(self._random.choice(list(self._servers)))
        return refused

    def _report(self) -> None:
        self._reported = self._now
        found = [self._standing(address) for address in self._servers]
        for address, server in self._servers.items():
            server.directory.replace(one for one in found if one.address != address)

    def _standing(self, address: str) -> Standing:
        robots = self._servers[address].robots
        return Standing(address, frozenset((_DIGEST,)), robots, self._most, robots / self._most)

    def _place(self, entry: str) -> bool:
        """As `Server` does: on to a less full one; from there on only where there is no room."""
        directory = self._servers[entry].directory
        at, seen = directory.place(_DIGEST, self._standing(entry)) or entry, {entry}
        while self._servers[at].robots >= self._most:
            seen.add(at)
            at = self._servers[at].directory.place(_DIGEST)
            if not at or at in seen:
                return False
        self._servers[at].robots += 1
        return True


@dataclass(frozen=True)
class Traffic:
    """What servers say to each other every second.

    Attributes:
        servers: that so many robots need.
        reports: to the register of a cluster on Ray.
        standings: that it answers with.
        pages: of metrics that servers of a list ask each other for.
    """

    servers: int
    reports: float
    standings: float
    pages: float


def traffic(robots: int, per_server: int, report_s: float = 0.5, ask_s: float = 1.0) -> Traffic:
    """That of a site.

    Args:
        robots: of the site.
        per_server: robots that a server takes.
        report_s: seconds between two reports to a register.
        ask_s: seconds between two rounds of asking.
    """
    servers = -(-robots // per_server)
    reports = servers / report_s
    return Traffic(servers, reports, reports * servers, servers * (servers - 1) / ask_s)
