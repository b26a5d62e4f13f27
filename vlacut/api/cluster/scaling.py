"""How many servers a cluster should have, by the load that admission of each computes.

What all servers have in use is the sum of their `fullness`: of their places for robots, which their
memory bounds, or of their engines' time, whichever is fuller. Each is meant to be 0.8 full at most:
beyond that, servers are added at once, for a robot that finds none has to wait for a machine. One
is given up when the others would be half full at most, and have been so for a minute: its robots
have to move, and may soon be back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from vlacut.runtime.cloud.directory import Standing

_FULL = 0.8
_IDLE = 0.5
_PATIENCE_S = 60.0


class Scaling:
    """Decides how many servers there should be.

    Args:
        least, most: servers that there are at any time.
        patience_s: seconds that a server must have been needless before it is given up.
    """

    def __init__(self, least: int, most: int, patience_s: float = _PATIENCE_S) -> None:
        self._least, self._most, self._patience_s = least, most, patience_s
        self._needless_since: float | None = None

    def wanted(self, standings: Sequence[Standing], servers: int, now: float) -> int:
        """How many there should be.

        Args:
            standings: of those that say how full they are.
            servers: that there are, also those that are being started and say nothing yet.
            now: seconds on a clock that never goes back.
        """
        used = sum(one.fullness for one in standings)
        needed = max(self._least, min(self._most, math.ceil(used / _FULL - 1e-9)))
        if needed > servers:
            self._needless_since = None
            return needed
        if servers <= self._least or used > _IDLE * (servers - 1):
            self._needless_since = None
            return servers
        if self._needless_since is None:
            self._needless_since = now
        if now - self._needless_since < self._patience_s:
            return servers
        self._needless_since = None
        return servers - 1
