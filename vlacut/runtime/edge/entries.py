"""Entries: where a robot asks for its cloud, and where it was served last.

Any server of a cluster is an entry: one that is full, or serves another bundle, names another one.
A robot that lost its connection begins where it was served last, for its state may be there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

from vlacut.errors import PeerLoading, PeerLost, PeerMoved, PeerUnable, WireError
from vlacut.runtime.edge.link import Line
from vlacut.runtime.wire.sockets import written

_MOST_MOVES = 8

_log = logging.getLogger("vlacut.edge")
Address = tuple[str, int]


class Entries:
    """The addresses of a cloud.

    Args:
        addresses: to ask, in this order.
        dial: makes a line to one; told also whether the robot was sent there, or served there last.
    """

    def __init__(self, addresses: Sequence[Address], dial: Callable[[Address, bool], Line]) -> None:
        self._addresses = tuple(addresses)
        self._dial = dial
        self._last: Address | None = None

    def dial(self) -> Line:
        """A line to the first server that takes this robot.

        Raises what dialling did: where there are several, of those that may go better later the
        first.
        """
        errors: list[WireError] = []
        for address, stay in self._in_turn():
            try:
                return self._follow(address, stay)
            except PeerLoading:
                raise
            except WireError as error:
                errors.append(error)
        raise min(errors, key=_how_final)

    def _in_turn(self) -> Iterator[tuple[Address, bool]]:
        last, self._last = self._last, None
        if last is not None:
            yield last, True
        yield from ((one, False) for one in self._addresses if one != last)

    def _follow(self, address: Address, stay: bool) -> Line:
        """A line to this server, or to where it sends the robot."""
        seen: list[Address] = []
        while address not in seen and len(seen) <= _MOST_MOVES:
            seen.append(address)
            try:
                line = self._dial(address, stay)
            except PeerMoved as moved:
                _log.info("%s sends this robot to %s", written(*address), written(*moved.address))
                address, stay = moved.address, True
            else:
                self._last = address
                return line
        where = ", ".join(written(*one) for one in seen)
        raise PeerUnable(f"{where} send this robot to each other: each of them is full")


def _how_final(error: WireError) -> int:
    """Lower for what may go better later."""
    return 0 if isinstance(error, PeerUnable) else 1 if isinstance(error, PeerLost) else 2
