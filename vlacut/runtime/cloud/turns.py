"""Turns: engines are run one at a time, for robots in the order in which they asked.

A robot has one run in the queue at most, so nobody gets a second turn before all who wait have had
theirs, however many frames somebody sends.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from vlacut.backend import Tensor


class Turns:
    """A lock, for `with`, that goes to the thread that waits longest; `Lock` promises no order."""

    def __init__(self) -> None:
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._taken = False
        self._since = 0.0
        self._waiting: deque[threading.Event] = deque()

    @property
    def mine_s(self) -> float:
        """Seconds for which the calling thread has held it so far, sum of its turns."""
        seconds: float = getattr(self._mine, "seconds", 0.0)
        return seconds

    @property
    def lasts_s(self) -> float:
        """How long the current turn has lasted, in seconds; 0 if nobody has one."""
        with self._lock:
            return time.monotonic() - self._since if self._taken else 0.0

    def __enter__(self) -> None:
        """Wait for a turn and hold it."""
        called = None
        with self._lock:
            if self._taken:
                called = threading.Event()
                self._waiting.append(called)
            else:
                self._since = time.monotonic()
            self._taken = True
        if called is not None:
            called.wait()
            self._since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        """Give it to who waits longest."""
        with self._lock:
            self._mine.seconds = self.mine_s + time.monotonic() - self._since
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._taken = False


class SharedEngine:
    """An engine whose runs wait for their turn."""

    def __init__(self, engine: Any, turns: Turns) -> None:
        self._engine = engine
        self._turns = turns
        self.take = getattr(engine, "take", None)  # needs no turn: it only copies

    @property
    def device_ns(self) -> int:
        """See `vlacut.backend.OpenEngine`."""
        spent: int = self._engine.device_ns
        return spent

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `vlacut.backend.Engine`."""
        with self._turns:
            made: dict[str, Tensor] = self._engine.run(inputs)
            return made
