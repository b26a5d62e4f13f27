"""Refusals: connections that were not taken, logged one by one unless they are a flood."""

from __future__ import annotations

import time
from collections.abc import Callable

_MOST_A_SECOND = 10  # lines
_OF_AN_ADDRESS = 3  # of these

Log = Callable[[str, str, str], None]


class Refusals:
    """Says which connections were not taken; used by one thread.

    At most three per second and address are logged, and ten per second in all. The next line says
    how many were left out.

    Args:
        log: told the event, whose connection it was, and why.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._began = 0.0
        self._said: dict[str, int] = {}
        self._silent = 0

    def note(self, event: str, peer: str, why: str) -> None:
        """A connection was not taken."""
        now = time.monotonic()
        if now - self._began > 1.0:
            self._begin(now)
        address = peer.rpartition(":")[0]
        said = self._said.get(address, 0)
        if said >= _OF_AN_ADDRESS or sum(self._said.values()) >= _MOST_A_SECOND:
            self._silent += 1
            return
        self._said[address] = said + 1
        self._log(event, peer, why)

    def _begin(self, now: float) -> None:
        silent, self._silent = self._silent, 0
        self._began, self._said = now, {}
        if silent:
            self._log("refused", "others", f"{silent} more connections like these")
