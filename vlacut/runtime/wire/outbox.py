"""What is still to be sent over a stream, and a thread that moves bytes while an engine runs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from vlacut.runtime.wire.stream import Stream, TlsStream, joined

View = memoryview | bytes


class Outbox:
    """Bytes in the order in which they are to be sent, as views of what holds them.

    Args:
        stream: they go to.

    Attributes:
        nbytes: how many bytes wait.
    """

    def __init__(self, stream: Stream) -> None:
        self.nbytes = 0
        self._stream = stream
        self._tls = isinstance(stream, TlsStream)
        self._views: list[View] = []

    def add(self, views: Sequence[View], sent: int = 0) -> None:
        """Put these behind what waits, but for the first `sent` bytes, which were sent already."""
        rest = advanced(joined(views) if self._tls else views, sent)
        self.nbytes += sum(map(len, rest))
        self._views += rest

    def push(self) -> bool:
        """Send what can be sent without waiting; False if that is nothing.

        Raises PeerLost if the connection ended.
        """
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


class Mover:
    """Calls `move` in a thread for as long as it is entered; nobody else may use what that uses.

    Args:
        move: moves bytes until the file descriptor it is given becomes readable.

    What `move` raises is raised on leaving, unless something else is.
    """

    def __init__(self, move: Callable[[int], None]) -> None:
        self._move = move
        self._error: Exception | None = None

    def __enter__(self) -> Mover:
        self._stop, self._signal = os.pipe()
        self._thread = threading.Thread(target=self._run, name="vlacut-mover", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.write(self._signal, b"x")
        self._thread.join()
        os.close(self._stop)
        os.close(self._signal)
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        try:
            self._move(self._stop)
        except Exception as error:  # it is raised where the engine's result is wanted
            self._error = error
