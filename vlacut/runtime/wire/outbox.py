"""An outbox: what is still to be sent over a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlacut.runtime.wire.stream import Stream, TlsStream, joined

View = memoryview | bytes


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
        self._views: list[View] = []

    def add(self, views: Sequence[View], sent: int = 0) -> None:
        """Put these behind what waits, but for the first bytes, which were sent already."""
        rest = advanced(joined(views) if self._tls else views, sent)
        self.nbytes += sum(map(len, rest))
        self._views += rest

    def push(self) -> bool:
        """Send what can be sent without waiting; False if that is nothing. Raises PeerLost."""
        pushed = False
        while self.nbytes and (sent := self._stream.put(self._views)):
            self._views = advanced(self._views, sent)
            self.nbytes -= sent
            pushed = True
        return pushed


def advanced(views: Sequence[Any], count: int) -> list[Any]:
    """Views without their first `count` bytes."""
    for index, view in enumerate(views):
        if count < len(view):
            return [view[count:], *views[index + 1 :]]
        count -= len(view)
    return []
