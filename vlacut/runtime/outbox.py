"""What is still to be sent over a stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from vlacut.runtime.stream import Stream, TlsStream, joined


class Outbox:
    """Bytes in the order in which they are to be sent, as views of what holds them.

    Args:
        stream: they go to.

    Attributes:
        nbytes: that wait.
    """

    def __init__(self, stream: Stream) -> None:
        self.nbytes = 0
        self._stream = stream
        self._tls = isinstance(stream, TlsStream)
        self._views: deque[memoryview | bytes] = deque()

    def __bool__(self) -> bool:
        return bool(self._views)

    def add(self, views: Sequence[memoryview | bytes], sent: int = 0) -> None:
        """Put these behind what waits, but for the first bytes, which were sent already."""
        rest = deque(joined(views) if self._tls else views)
        advance(rest, sent)
        self.nbytes += sum(map(len, rest))
        self._views += rest

    def push(self) -> bool:
        """Send what can be sent without waiting; False if that is nothing. Raises PeerLost."""
        pushed = False
        while self._views and (sent := self._stream.put(self._views)):
            advance(self._views, sent)
            self.nbytes -= sent
            pushed = True
        return pushed


def advance(views: deque[Any], count: int) -> None:
    """Drop the first `count` bytes."""
    while count:
        if count < len(views[0]):
            views[0] = views[0][count:]
            return
        count -= len(views.popleft())
