"""Whose turn it is: one client drives the robot, until nothing is heard of it any more."""

from __future__ import annotations

import threading
import time


class Turn:
    """The turn of one client, for several threads.

    Args:
        leaves_s: seconds without a word from a client, before another one may drive.
    """

    def __init__(self, leaves_s: float) -> None:
        self._leaves_s, self._lock = leaves_s, threading.Lock()
        self._owner, self._heard_s = "", 0.0

    def takes(self, peer: str) -> bool:
        """Whether a client is the one that drives, or may be from now on."""
        with self._lock:
            now = time.monotonic()
            if peer != self._owner and self._owner and now - self._heard_s < self._leaves_s:
                return False
            self._owner, self._heard_s = peer, now
            return True
