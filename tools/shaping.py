"""An emulated link: a TCP proxy with a rate and a delay, each way, in a process of its own.

Bytes leave a direction one after the other at its rate, and arrive half a round trip later. The
proxy ends TCP on both sides, so there is no slow start and no loss: it shows what a price without
them predicts, not what a new connection over a real network would take.
"""

from __future__ import annotations

import queue
import socket
import subprocess
import sys
import threading
import time
from types import TracebackType

from vlacut.hardware import Link

_CHUNK = 4096  # bytes that leave together


class ShapedLink:
    """A link to a server, while entered; connect to `address` instead of the server's."""

    def __init__(self, server: tuple[str, int], link: Link) -> None:
        host, port = server
        words = (host, port, link.up, link.down, link.hop_s)
        self._process = subprocess.Popen(
            [sys.executable, __file__, *map(str, words)], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.address = "127.0.0.1", int(self._process.stdout.readline())

    def __enter__(self) -> ShapedLink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.communicate()


def main() -> None:
    """Forward one connection after another: HOST PORT UP DOWN DELAY, bytes a second and seconds."""
    host, port = sys.argv[1], int(sys.argv[2])
    up, down, delay = map(float, sys.argv[3:])
    listener = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    while True:
        edge = listener.accept()[0]
        cloud = socket.create_connection((host, port))
        for source, sink, rate in ((edge, cloud, up), (cloud, edge, down)):
            sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _Direction(source, sink, rate, delay).start()


class _Direction:
    """One way of one connection: a thread takes bytes in, another lets them out when due."""

    def __init__(
        self, source: socket.socket, sink: socket.socket, rate: float, delay: float
    ) -> None:
        self._source, self._sink = source, sink
        self._rate, self._delay = rate, delay
        self._due: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def start(self) -> None:
        """Forward until an end is closed."""
        for work in (self._take, self._let_out):
            threading.Thread(target=work, daemon=True).start()

    def _take(self) -> None:
        free = 0.0  # when the last byte taken has left
        while data := _received(self._source):
            free = max(free, time.perf_counter()) + len(data) / self._rate
            self._due.put((free + self._delay, data))
        self._due.put((0.0, b""))

    def _let_out(self) -> None:
        while True:
            due, data = self._due.get()
            if not data:
                break
            left = due - time.perf_counter()
            if left > 0:
                time.sleep(left)
            try:
                self._sink.sendall(data)
            except OSError:
                break
        self._sink.close()


def _received(source: socket.socket) -> bytes:
    try:
        return source.recv(_CHUNK)
    except OSError:
        return b""


if __name__ == "__main__":
    main()
