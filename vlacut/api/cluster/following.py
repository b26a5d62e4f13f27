"""Following the servers of a cluster: each asks all others how full they are, every second.

So none of them is in charge, and a robot may ask any. A server that does not answer, or ends, is
sent no robots.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from vlacut.api.cluster.asking import fetch_status
from vlacut.api.cluster.workers import Worker
from vlacut.errors import VlacutError
from vlacut.runtime.cloud.directory import Directory, Standing
from vlacut.runtime.cloud.server import Server

_PERIOD_S = 1.0
_TIMEOUT_S = 2.0
_AT_ONCE = 16

_log = logging.getLogger("vlacut.server")


class Follower:
    """Keeps a server's directory of the others.

    Args:
        workers: of the cluster; which of them is the server itself, their pages say.
        server: that they are the others of.
        directory: of it.
        period_s: seconds between two rounds.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        server: Server,
        directory: Directory,
        period_s: float = _PERIOD_S,
    ) -> None:
        self._workers, self._server, self._directory = tuple(workers), server, directory
        self._period_s = period_s
        self._silent: set[Worker] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="vlacut-follow", daemon=True)

    def start(self) -> None:
        """Ask every period, in a thread of its own, until `close`."""
        self._thread.start()

    def close(self) -> None:
        """End it, once the round that goes on has."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def ask_all(self) -> None:
        """One round: all servers are asked, several at a time."""
        with ThreadPoolExecutor(min(_AT_ONCE, len(self._workers))) as beside:
            list(beside.map(self._ask, self._workers))

    def _follow(self) -> None:
        while not self._ended.wait(self._period_s):
            self.ask_all()

    def _ask(self, worker: Worker) -> None:
        try:
            found = fetch_status(*worker.metrics, _TIMEOUT_S)
        except VlacutError as error:
            self._directory.forget(worker.address)
            if worker not in self._silent:
                self._silent.add(worker)
                _log.warning("no robots are sent to %s: %s", worker.address, error)
            return
        self._silent.discard(worker)
        if found["instance"] != self._server.instance:
            self._directory.report(standing_of(worker.address, found))


def bundles_of(found: dict[str, Any]) -> frozenset[bytes]:
    """Digests of the bundles that a server's page has, without those that it gives up."""
    return frozenset(bytes.fromhex(one["digest"]) for one in found["bundles"] if not one["retired"])


def standing_of(address: str, found: dict[str, Any]) -> Standing:
    """What a server's page says, of its robots and the bundles that it takes more of."""
    taking = bundles_of(found) if found["health"] == "ok" else frozenset[bytes]()
    return Standing(address, taking, found["robots"], found["most_robots"], found["load"])
