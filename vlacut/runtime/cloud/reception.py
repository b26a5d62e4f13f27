"""The reception: where connections come in, each to be served by a thread of its own."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

from vlacut.runtime.wire.sockets import listener, use_cubic, written

_POLL_S = 0.2
_REST_S = 1.0  # after a connection that could not be accepted: the next one could not be either
_MOST_STRANGERS = 64


class Reception:
    """Accepts connections, and starts a thread for each.

    Args:
        host, port: where to listen, see `vlacut.runtime.wire.sockets.listener`.
        serve: what the thread does: told the connection, which it owns, and whose it is. It calls
            `known` once it knows that, or gives up.
        refused: told whose connection was not taken, and why.

    Raises InputError if the address cannot be had.
    """

    def __init__(
        self,
        host: str,
        port: int,
        serve: Callable[[socket.socket, str], None],
        refused: Callable[[str, str], None],
    ) -> None:
        self._serve = serve
        self._refused = refused
        self._stopping = threading.Event()
        self._threads: set[threading.Thread] = set()
        self._strangers = threading.BoundedSemaphore(_MOST_STRANGERS)
        self._listener = listener(host, port)
        use_cubic(self._listener)
        self._listener.settimeout(_POLL_S)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port it listens on."""
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Ask `receive_all` to return; for any thread, and signal handlers."""
        self._stopping.set()

    def receive_all(self) -> None:
        """Take connections until `stop` or `close`."""
        while (accepted := self._accept()) is not None:
            self._start(*accepted)

    def known(self) -> None:
        """One who was asked has said who it is, or is given up."""
        self._strangers.release()

    def close(self) -> None:
        """Listen no more; threads that serve go on."""
        self._listener.close()

    def wait(self, seconds: float) -> None:
        """Wait until all threads have ended, for so long at most."""
        end = time.monotonic() + seconds
        for thread in list(self._threads):
            thread.join(max(0.0, end - time.monotonic()))

    def _accept(self) -> tuple[socket.socket, str] | None:
        """The next connection, and whose it is; None once this is stopping or closed."""
        while not self.stopping:
            try:
                sock, peer = self._listener.accept()
            except TimeoutError:
                continue
            except OSError as error:
                if self._listener.fileno() < 0:  # closed: nobody will come
                    break
                # Else one of the network, or no file descriptors are left: accept(2).
                self._refused("somebody", f"cannot be accepted: {error.strerror}")
                self._stopping.wait(_REST_S)
                continue
            if self.stopping:
                sock.close()
                break
            return sock, written(*peer[:2])
        return None

    def _start(self, sock: socket.socket, peer: str) -> None:
        if not self._strangers.acquire(blocking=False):
            sock.close()
            self._refused(peer, "too many connections that have not said who they are")
            return
        thread = threading.Thread(target=self._serve, args=(sock, peer), name=peer, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system has no more threads
            self.known()
            sock.close()
            self._refused(peer, str(error))
            return
        self._threads = {thread for thread in self._threads if thread.is_alive()} | {thread}
