"""The robots a server has: who is let in, and what they have done."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

from vlacut.plans.memory import UNKNOWN, Memory
from vlacut.runtime.cloud.memory import RobotMemory
from vlacut.runtime.tally import Tally
from vlacut.runtime.wire.protocol import Greeting
from vlacut.runtime.wire.stream import shut

_LET_GO_S = 1.0  # that a robot waits for its older session
_REMEMBERED_S = 600.0
_SHARE = 0.5  # of the room and of the engines' time, for one name at most


@dataclass
class Counts:
    """What a server has done so far.

    Attributes:
        events: `connected`, `left`, `lost`, `refused`, `failed`, `replaced`, by how often.
        steps: served to their end.
        abandoned: steps that the edge gave up.
        engine_s: seconds that engines ran in the steps served to their end.
        part_s: seconds by part, waiting for a turn included.
        received, sent: bytes of tensors.
    """

    events: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    abandoned: int = 0
    engine_s: float = 0.0
    part_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    received: int = 0
    sent: int = 0


@dataclass(frozen=True)
class _Robot:
    name: str
    deadline_s: float
    sock: socket.socket
    greeted_ns: int


class Robots:
    """The sessions of a server. All methods may be called from any thread.

    A robot that was lost is remembered for a while, with its state, as long as no other needs the
    room.

    Args:
        most: robots at a time.
        memory: of the machine; no more robots than fit there are let in.
        remembering: makes the memory of a robot's state.
    """

    def __init__(
        self,
        most: int,
        memory: Memory = UNKNOWN,
        remembering: Callable[[], RobotMemory] | None = None,
    ) -> None:
        self._most = most
        self._remembering = remembering
        self._memories: OrderedDict[bytes, RobotMemory] = OrderedDict()
        self._lost_at: dict[bytes, float] = {}
        self._fit = memory.robots
        self._lock = threading.Lock()
        self._robots: dict[bytes, _Robot] = {}
        self._counts = Counts()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._robots)

    def admit(self, greeting: Greeting, sock: socket.socket, step_s: float, name: str = "") -> str:
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
            step_s: seconds of engines in a step, as measured; 0 before the first.
            name: of the robot, in its certificate; empty if it has none.
        """
        with self._lock:
            old = self._robots.get(greeting.token)
            if old and old.greeted_ns >= greeting.first_ns:
                return "this robot has a newer session"
            self._robots.pop(greeting.token, None)
            deadline_s = greeting.second_ns * 1e-9
            robot = _Robot(name, deadline_s, sock, greeting.first_ns)
            why = "" if old else self._full(robot, step_s)
            if not why:
                self._robots[greeting.token] = robot
                self._forget_some()
        if old:
            self.count("replaced")
            shut(old.sock)
        return why

    def _full(self, robot: _Robot, step_s: float) -> str:
        """Why this robot is one too many; empty if it is not."""
        robots = [*self._robots.values(), robot]
        if len(robots) > self._most:
            return f"it serves {self._most} robots at a time"
        if self._fit is not None and len(robots) > self._fit:
            return f"its memory holds {self._fit} robots beside the engines"
        named = sum(each.name == robot.name for each in robots) if robot.name else 1
        most = self._most if self._fit is None else min(self._most, self._fit)
        if named > max(1, math.floor(most * _SHARE)):
            return f"{robot.name} has {named - 1} sessions, of the {most} that there is room for"
        load = _load(robots, step_s)
        if len(robots) > 1 and load > 1:
            return f"its engines would take {load:.2f} s of every second"
        return ""

    def recall(self, token: bytes) -> RobotMemory | None:
        """The memory of a robot that was let in, once an older session of it has let go; None where
        the plan has no state.
        """
        if self._remembering is None:
            return None
        with self._lock:
            old = self._memories.pop(token, None)
        # One that an engine still runs for is lost: whoever takes it over would share it.
        found = old if old and old.released.wait(_LET_GO_S) else self._remembering()
        found.released.clear()
        with self._lock:
            self._memories[token] = found
            self._lost_at.pop(token, None)
        return found

    def leave(self, sock: socket.socket, lost: bool = False) -> None:
        """A session ended; does nothing if it was never admitted, or the robot has a newer one.

        Args:
            sock: its connection.
            lost: whether the robot may come back for its state.
        """
        with self._lock:
            for token, robot in self._robots.items():
                if robot.sock is sock:
                    del self._robots[token]
                    self._lost_at[token] = time.monotonic()
                    if not lost:
                        self._memories.pop(token, None)
                    self._forget_some()
                    return

    def _forget_some(self) -> None:
        """Forget robots that were lost long ago, or whose room is needed."""
        room = self._most if self._fit is None else min(self._most, self._fit)
        gone = [token for token in self._memories if token not in self._robots]
        for token in gone:
            late = time.monotonic() - self._lost_at.get(token, 0.0) > _REMEMBERED_S
            if late or len(self._memories) > room:
                del self._memories[token]
        for token in [token for token in self._lost_at if token not in self._memories]:
            del self._lost_at[token]

    def hang_up(self) -> None:
        """End all sessions."""
        with self._lock:
            socks = [robot.sock for robot in self._robots.values()]
        for sock in socks:
            shut(sock)

    def count(self, event: str) -> None:
        """Note an event."""
        with self._lock:
            self._counts.events[event] += 1

    def step_s(self) -> float:
        """Seconds that a step takes the engines, on average; 0 before the first. What robots gave
        up does not count: they could make it as long as they like.
        """
        with self._lock:
            return self._counts.engine_s / self._counts.steps if self._counts.steps else 0.0

    def note_step(self, tally: Tally, done: bool, engine_s: float = 0.0) -> None:
        """Note a step, done or abandoned, and for how many seconds engines ran in it."""
        with self._lock:
            counts = self._counts
            for name, start_ns, end_ns in tally.ran:
                counts.part_s[name] += (end_ns - start_ns) * 1e-9
            counts.received += tally.received
            counts.sent += tally.sent
            counts.steps += done
            counts.engine_s += engine_s if done else 0.0
            counts.abandoned += not done

    @property
    def counts(self) -> Counts:
        """A copy of what was done so far."""
        with self._lock:
            return deepcopy(self._counts)


def _load(robots: Sequence[_Robot], step_s: float) -> float:
    """Seconds of every second that robots claim of the engines, as far as a claim counts."""
    named: defaultdict[str, float] = defaultdict(float)
    for robot in robots:
        named[robot.name] += step_s / robot.deadline_s if robot.deadline_s else 0.0
    nameless = named.pop("", 0.0)
    return nameless + sum(min(claim, _SHARE) for claim in named.values())
