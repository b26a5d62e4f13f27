"""The robots a server has: who is let in, and whose state is remembered."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from vlacut.runtime.cloud.deployment import Deployment
from vlacut.runtime.cloud.hosting import Hosting
from vlacut.runtime.cloud.memory import RobotMemory
from vlacut.runtime.wire.protocol.greeting import Greeting
from vlacut.runtime.wire.stream import shut

_LET_GO_S = 1.0  # that a robot waits for its older session
_REMEMBERED_S = 600.0
_SHARE = 0.5  # of the room and of the engines' time, for one name at most


@dataclass(frozen=True)
class _Robot:
    served: Deployment
    name: str
    deadline_s: float
    sock: socket.socket
    greeted_ns: int


@dataclass(frozen=True)
class _Kept:
    served: Deployment
    memory: RobotMemory


class Robots:
    """The sessions of a server. All methods may be called from any thread.

    A robot that was lost is remembered for a while, with its state, as long as no other needs the
    room.

    Args:
        most: robots at a time.
        hosting: the bundles, and the memory that they share with the sessions.
    """

    def __init__(self, most: int, hosting: Hosting) -> None:
        self._most = most
        self._hosting = hosting
        self._memories: OrderedDict[bytes, _Kept] = OrderedDict()
        self._lost_at: dict[bytes, float] = {}
        self._lock = threading.Lock()
        self._robots: dict[bytes, _Robot] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._robots)

    @property
    def load(self) -> float:
        """Seconds of engines that the robots take of every second, by their deadlines."""
        with self._lock:
            return _load(list(self._robots.values()))

    def admit(
        self, greeting: Greeting, sock: socket.socket, served: Deployment, name: str = ""
    ) -> str:
        """Why there is no room for a robot; empty if there is, and it has it from then on.

        There is as long as there are fewer than `most`, their sessions fit the memory beside the
        engines, and the engines' time fits: the seconds that a step takes them, over the deadline,
        summed over the robots, stay within 1 (Liu and Layland 1973: what one processor can serve at
        all). The first robot always fits the time. A name has half of the room at most, and its
        deadlines count for half of the time at most, so that no robot keeps others out, whatever it
        claims: who needs more has it as long as nobody else comes. Without a name each session is
        on its own: nothing tells robots apart. One whose token is known has the room of its
        older session, which ends; if that one is the newer by the robot's clock, this greeting
        comes late, and its connection has been given up.

        Args:
            greeting: of the robot.
            sock: its connection.
            served: its bundle.
            name: of the robot, in its certificate; empty if it has none.
        """
        with self._lock:
            old = self._robots.get(greeting.token)
            if old and old.greeted_ns >= greeting.first_ns:
                return "this robot has a newer session"
            if old:
                self._end(greeting.token)
            new = _Robot(served, name, greeting.second_ns * 1e-9, sock, greeting.first_ns)
            why = "" if old and old.served is served else self._full(new)
            if not why:
                self._robots[greeting.token] = new
                served.sessions += 1
                served.used_s = time.monotonic()
                self._forget_some()
        if old:
            served.count("replaced")
            shut(old.sock)
        return why

    def _end(self, token: bytes) -> _Robot:
        """Take a session out."""
        robot = self._robots.pop(token)
        robot.served.sessions -= 1
        robot.served.used_s = time.monotonic()
        return robot

    def _full(self, new: _Robot) -> str:
        """Why a robot is one too many; empty if it is not. Nobody is unloaded for one that the
        engines have no time for.
        """
        others = list(self._robots.values())
        if len(others) >= self._most:
            return f"it serves {self._most} robots at a time"
        load = _load([*others, new])
        if others and load > 1:
            return f"its engines would take {load:.2f} s of every second"
        if not self._hosting.make_room(new.served, [robot.served for robot in others]):
            return f"its memory holds {len(others)} robots beside the engines, and not this one"
        named = sum(each.name == new.name for each in others) + 1 if new.name else 1
        fit = self._hosting.most(new.served)
        most = self._most if fit is None else min(self._most, fit)
        if named > max(1, math.floor(most * _SHARE)):
            return f"{new.name} has {named - 1} sessions, of the {most} that there is room for"
        return ""

    def recall(self, token: bytes, served: Deployment) -> RobotMemory | None:
        """The memory of a robot that was let in, once an older session of it has let go; None where
        the plan has no state.
        """
        made = served.remembering()
        if made is None:
            return None
        with self._lock:
            old = self._memories.pop(token, None)
        # One that an engine still runs for is lost: whoever takes it over would share it.
        if old and old.served is served and old.memory.released.wait(_LET_GO_S):
            made = old.memory
        made.released.clear()
        with self._lock:
            self._memories[token] = _Kept(served, made)
            self._lost_at.pop(token, None)
        return made

    def leave(self, sock: socket.socket, lost: bool = False) -> None:
        """A session ended; does nothing if it was never admitted, or the robot has a newer one.

        Args:
            sock: its connection.
            lost: whether the robot may come back for its state.
        """
        with self._lock:
            for token, robot in self._robots.items():
                if robot.sock is sock:
                    self._end(token)
                    self._lost_at[token] = time.monotonic()
                    if not lost:
                        self._memories.pop(token, None)
                    self._forget_some()
                    return

    def _forget_some(self) -> None:
        """Forget robots that were lost long ago, or whose room is needed."""
        gone = [token for token in self._memories if token not in self._robots]
        for token in gone:
            late = time.monotonic() - self._lost_at.get(token, 0.0) > _REMEMBERED_S
            held = [kept.served for kept in self._memories.values()]
            if late or len(held) > self._most or not self._hosting.holds(held):
                del self._memories[token]
        for token in [token for token in self._lost_at if token not in self._memories]:
            del self._lost_at[token]

    def hang_up(self) -> None:
        """End all sessions."""
        with self._lock:
            socks = [robot.sock for robot in self._robots.values()]
        for sock in socks:
            shut(sock)


def _load(robots: Sequence[_Robot]) -> float:
    """Seconds of every second that robots claim of the engines, as far as a claim counts."""
    named: defaultdict[str, float] = defaultdict(float)
    for robot in robots:
        claim = robot.served.step_s / robot.deadline_s if robot.deadline_s else 0.0
        named[robot.name] += claim
    nameless = named.pop("", 0.0)
    return nameless + sum(min(claim, _SHARE) for claim in named.values())
