"""What is still to be sent over a socket that must not block, plain or TLS."""

from __future__ import annotations

import socket
import ssl
from collections import deque
from collections.abc import Sequence

from vlacut.errors import PeerLost

_SMALL = 4096


class Outbox:
    """Bytes in the order in which they are to be sent, as views of what holds them.

    Args:
        sock: that does not block.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._tls = isinstance(sock, ssl.SSLSocket)
        self._views: deque[memoryview] = deque()

    def __bool__(self) -> bool:
        return bool(self._views)

    @property
    def nbytes(self) -> int:
        """Bytes that wait."""
        return sum(len(view) for view in self._views)

    def add(self, views: Sequence[memoryview]) -> None:
        """Put these behind what waits."""
        self._views.extend(_joined(views) if self._tls else views)

    def push(self) -> bool:
        """Send what can be sent without waiting; False if that is nothing. Raises PeerLost."""
        pushed = False
        while self._views and (sent := self._put()):
            advance(self._views, sent)
            pushed = True
        return pushed

    def _put(self) -> int:
        """Send some; 0 if that would block."""
        try:
            if self._tls:
                return self._sock.send(self._views[0])
            return self._sock.sendmsg(self._views)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except OSError as error:
            raise lost(error) from error


def lost(error: OSError) -> PeerLost:
    """What a socket's error means."""
    return PeerLost(f"the connection ended: {error.strerror or error}")


def _joined(views: Sequence[memoryview]) -> list[memoryview]:
    """The same bytes with neighbours joined where they are small: a view is a TLS record."""
    joined: list[memoryview] = []
    small = b""
    for view in views:
        if len(view) < _SMALL:
            small += bytes(view)
        else:
            joined += [memoryview(small), view] if small else [view]
            small = b""
    return [*joined, memoryview(small)] if small else joined


def advance(views: deque[memoryview], count: int) -> None:
    """Drop the first `count` bytes."""
    while count:
        if count < len(views[0]):
            views[0] = views[0][count:]
            return
        count -= len(views.popleft())
