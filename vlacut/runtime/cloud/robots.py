"""The robots a server has: who is let in, and what they have done."""

from __future__ import annotations

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


@dataclass
class Counts:
    """What a server has done so far.

    Attributes:
        events: `connected`, `left`, `lost`, `refused`, `failed`, `replaced`, by how often.
        steps: served to their end.
        abandoned: steps that the edge gave up.
        part_s: seconds by part, waiting for a turn included.
        received, sent: bytes of tensors.
    """

    events: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    abandoned: int = 0
    part_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    received: int = 0
    sent: int = 0


@dataclass(frozen=True)
class _Robot:
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

    def admit(self, greeting: Greeting, sock: socket.socket, step_s: float) -> str:
        """Why there is no room for a robot; empty if there is, and it has it from then on.

        There is as long as there are fewer than `most`, their sessions fit the memory beside the
        engines, and the engines' time fits: the seconds that a step takes them, over the deadline,
        summed over the robots, stay within 1 (Liu and Layland 1973: what one processor can serve at
        all). The first robot always fits the time. One whose token is known has the room of its
        older session, which ends; if that one is the newer by the robot's clock, this greeting
        comes late, and its connection has been given up.

        Args:
            greeting: of the robot.
            sock: its connection.
            step_s: seconds of engines in a step, as measured; 0 before the first.
        """
        with self._lock:
            old = self._robots.get(greeting.token)
            if old and old.greeted_ns >= greeting.first_ns:
                return "this robot has a newer session"
            self._robots.pop(greeting.token, None)
            deadline_s = greeting.second_ns * 1e-9
            deadlines = [robot.deadline_s for robot in self._robots.values()] + [deadline_s]
            why = "" if old else self._full(deadlines, step_s)
            if not why:
                self._robots[greeting.token] = _Robot(deadline_s, sock, greeting.first_ns)
                self._forget_some()
        if old:
            self.count("replaced")
            shut(old.sock)
        return why

    def _full(self, deadlines: Sequence[float], step_s: float) -> str:
        """Why robots with these deadlines are one too many; empty if they are not."""
        load = sum(step_s / each for each in deadlines if each)
        if len(deadlines) > self._most:
            return f"it serves {self._most} robots at a time"
        if self._fit is not None and len(deadlines) > self._fit:
            return f"its memory holds {self._fit} robots beside the engines"
        if len(deadlines) > 1 and load > 1:
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

    def note_step(self, tally: Tally, done: bool) -> None:
        """Note a step, done or abandoned."""
        with self._lock:
            counts = self._counts
            for name, start_ns, end_ns in tally.ran:
                counts.part_s[name] += (end_ns - start_ns) * 1e-9
            counts.received += tally.received
            counts.sent += tally.sent
            counts.steps += done
            counts.abandoned += not done

    @property
    def counts(self) -> Counts:
        """A copy of what was done so far."""
        with self._lock:
            return deepcopy(self._counts)
