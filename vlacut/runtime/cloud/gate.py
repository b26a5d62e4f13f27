"""The gate: keeps the kernel's queue of connections short, so that known robots find a place in it.

What comes from addresses that are turned back is dropped by the kernel. While the queue fills all
the same, half as many are heard of those from addresses that nobody was let in from, then half of
these, until it fills no more; twice as many again once it is short. See `socket_filter`. Where the
kernel has no filters, its queue is first come first served.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress

from vlacut.runtime.cloud.crowds import network_of
from vlacut.runtime.cloud.lobby import Lobby
from vlacut.runtime.cloud.socket_filter import MOST, Rules, queue_of, set_rules
from vlacut.runtime.wire.sockets import written

_PAUSE_S = 0.02  # at least, from one look at the queue to the next
_LONG, _SHORT = 1 / 8, 1 / 32  # of a queue's places
_MOST_HALVINGS = 12


class Gate:
    """Who may join a listening socket's queue.

    Args:
        listener: listens.
        lobby: knows who is turned back, and who was let in before.
        refused: told of who is dropped from now on: `refused`, the address, and why.
    """

    def __init__(
        self, listener: socket.socket, lobby: Lobby, refused: Callable[[str, str, str], None]
    ) -> None:
        self._listener = listener
        self._lobby = lobby
        self._refused = refused
        self._rules = Rules()
        self._looked = 0.0
        self._works = sys.platform == "linux"

    def look(self, now: float) -> None:
        """Change who may join, if it is time: for every turn of who accepts; seconds."""
        if not self._works or now - self._looked < _PAUSE_S:
            return
        self._looked = now
        try:
            rules = self._wanted(now)
            if rules != self._rules:
                set_rules(self._listener, rules)
        except OSError:  # no filters here; or nobody listens any more
            self._works = False
            with suppress(OSError):  # else the rules that are there would hold for good
                set_rules(self._listener, Rules())
            return
        for crowd in set(rules.barred).difference(self._rules.barred):
            self._refused("refused", written(crowd, 0), "too many connections: dropped unheard")
        self._rules = rules

    def _wanted(self, now: float) -> Rules:
        taken, halvings = queue_of(self._listener), self._rules.halvings
        if taken > _LONG:
            halvings = min(halvings + 1, _MOST_HALVINGS)
        elif taken < _SHORT:
            halvings = max(halvings - 1, 0)
        barred = tuple(sorted(self._lobby.barred(now)[:MOST]))
        return Rules(barred, _plain(self._lobby.known()) if halvings else (), halvings)


def _plain(addresses: Iterable[str]) -> tuple[str, ...]:
    """The last of them, as the network layer has them: IPv4 without its form in IPv6."""
    latest = list(addresses)[-MOST:]
    crowds = map(network_of, latest)  # of IPv4 the address itself, of IPv6 a network
    return tuple(
        sorted(
            one.partition("%")[0] if "/" in crowd else crowd
            for one, crowd in zip(latest, crowds, strict=True)
        )
    )
