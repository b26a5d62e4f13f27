"""Events of a server: counted, by bundle where one was named, and logged."""

from __future__ import annotations

import logging
import threading
from collections import Counter

from vlacut.runtime.cloud.deployment import Counts, Deployment
from vlacut.runtime.cloud.refusals import Refusals

_log = logging.getLogger("vlacut.server")


class Events:
    """What became of connections; any thread may call its methods, `refuse` one alone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._strangers: Counter[str] = Counter()  # what became of who named no bundle
        self._refusals = Refusals(self._say)

    def add_to(self, counts: Counts) -> None:
        """Add what became of those who named no bundle."""
        with self._lock:
            counts.events.update(self._strangers)

    def refuse(self, event: str, peer: str, why: str) -> None:
        """Count a connection that was not taken, and log it unless it is one of a flood."""
        self._count(event)
        self._refusals.note(event, peer, why)

    def note(self, served: Deployment | None, event: str, peer: str, text: str) -> None:
        """Count and log what became of a robot, and of whose bundle, if it named one."""
        if served is not None:
            served.count(event)
        else:
            self._count(event)
        self._say(event, peer, text)

    def _count(self, event: str) -> None:
        with self._lock:
            self._strangers[event] += 1

    def _say(self, event: str, peer: str, text: str) -> None:
        level = logging.INFO if event in ("connected", "left") else logging.WARNING
        line = f"{event}: {peer}" + (f": {text}" if text else "")
        _log.log(level, line, extra={"event": event, "robot": peer})
