"""Proxy: forwards TCP connections, and lets bytes out when the emulated link would.

Each direction of a connection has two threads: one takes bytes in and asks the link when they
arrive; the other lets them out then. What is between them is bounded, so that a sender is held up
as by a full socket. A larger message may not be sent as far ahead as the price of a cut has it.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from contextlib import suppress

from vlacut.emulation.direction import LinkDirection
from vlacut.emulation.shape import Shape
from vlacut.runtime.closing import Closing

_CHUNK = 1 << 16
_BUFFER_BYTES = 1 << 22
_CONNECT_S = 3.0


class Proxy(Closing):
    """A link to a server, in this process, until closed; connect to `address` instead.

    Args:
        server: host and port.
        shape: what the link does.
        begun: whether the traces start now; if not, bytes are delayed and no more until `begin`.

    Attributes:
        address: host and port, on loopback.

    A server that does not answer within 3 s is a connection that is closed.
    """

    def __init__(self, server: tuple[str, int], shape: Shape, *, begun: bool = True) -> None:
        self._server = server
        start = time.monotonic() if begun else None
        self._directions = tuple(
            LinkDirection(direction, shape.segment_bytes, 2 * shape.seed + index, start)
            for index, direction in enumerate((shape.up, shape.down))
        )
        self._closing = False
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        threading.Thread(target=self._accept, name="link", daemon=True).start()

    def begin(self) -> float:
        """Start both traces now; the time, in seconds on the clock of `time.monotonic`."""
        now = time.monotonic()
        for direction in self._directions:
            direction.begin(now)
        return now

    def close(self) -> None:
        """End all connections; calling it again does nothing."""
        with self._lock:
            self._closing = True
            ended = [self._listener, *self._open]
            self._open.clear()
        for sock in ended:
            _end(sock)

    def _accept(self) -> None:
        while True:
            try:
                near = self._listener.accept()[0]
            except OSError:
                return
            try:
                far = socket.create_connection(self._server, _CONNECT_S)
            except OSError:
                near.close()  # as the server would refuse it
                continue
            far.settimeout(None)
            with self._lock:
                if self._closing:
                    near.close()
                    far.close()
                    return
                self._open |= {near, far}
            self._join(near, far)

    def _join(self, near: socket.socket, far: socket.socket) -> None:
        over = threading.Barrier(2, lambda: self._forget(near, far))
        for source, sink, direction in zip((near, far), (far, near), self._directions, strict=True):
            sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _Direction(source, sink, direction, over).start()

    def _forget(self, *ends: socket.socket) -> None:
        with self._lock:
            self._open.difference_update(ends)
        for sock in ends:
            sock.close()


class _Direction:
    """One way of one connection."""

    def __init__(
        self,
        source: socket.socket,
        sink: socket.socket,
        direction: LinkDirection,
        over: threading.Barrier,
    ) -> None:
        self._source, self._sink = source, sink
        self._link = direction
        self._over = over
        self._changed = threading.Condition()
        self._queue: deque[tuple[float, bytes]] = deque()
        self._held = 0
        self._stopped = False

    def start(self) -> None:
        """Forward until an end is closed."""
        for work in (self._take, self._let_out):
            threading.Thread(target=work, name="link", daemon=True).start()

    def _take(self) -> None:
        due = 0.0
        while data := _received(self._source):
            now = time.monotonic()
            start = 0
            while start < len(data):
                end = start + self._link.together(len(data) - start, now)
                due = self._link.take(end - start, now)
                self._put(due, data[start:end])
                start = end
        self._put(due, b"")

    def _put(self, due: float, data: bytes) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._held < _BUFFER_BYTES or self._stopped)
            self._queue.append((due, data))
            self._held += len(data)
            self._changed.notify_all()

    def _let_out(self) -> None:
        while data := self._next():
            try:
                self._sink.sendall(data)
            except OSError:
                _end(self._source)
                break
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        with suppress(OSError):  # it may have been ended from elsewhere
            self._sink.shutdown(socket.SHUT_WR)
        self._over.wait()

    def _next(self) -> bytes:
        """All that is due, once something is; nothing at the end of the stream."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue)
            due = self._queue[0][0]
        left = due - time.monotonic()
        if left > 0:
            time.sleep(left)
        with self._changed:
            ready = [self._queue.popleft()[1]]
            now = time.monotonic()
            while self._queue and self._queue[0][0] <= now and self._queue[0][1]:
                ready.append(self._queue.popleft()[1])
            data = b"".join(ready)
            self._held -= len(data)
            self._changed.notify_all()
        return data


def _received(source: socket.socket) -> bytes:
    try:
        return source.recv(_CHUNK)
    except OSError:
        return b""


def _end(sock: socket.socket) -> None:
    with suppress(OSError):  # it may have ended already
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
