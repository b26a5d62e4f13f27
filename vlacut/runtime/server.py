"""The cloud's side of a deployment: one process, many robots, a thread and a connection each."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Mapping

from vlacut.backend import Engine
from vlacut.errors import BackendError, InputError, PeerLost, WireError
from vlacut.plan import Plan
from vlacut.pricing import Side
from vlacut.runtime.interpreter import Walk
from vlacut.runtime.layout import Layout
from vlacut.runtime.wire import Connection, answer

_HANDSHAKE_S = 5.0
_POLL_S = 0.2


def _silent(kind: str, text: str) -> None:
    """Events that nobody watches."""


class Server:
    """Serves the cloud parts of one bundle.

    Args:
        plan: of the bundle.
        digest: of the bundle.
        engines: by name of part, all cloud parts; shared by the robots, so they must allow calls
            from several threads.
        host, port: where to listen; port 0 takes a free one, see `address`.
        insecure: allow another host than loopback, though peers are not authenticated.
        timeout: seconds without progress within a step after which a robot counts as lost.
        on_event: called with a kind (`connected`, `left`, `lost`, `refused`, `failed`) and a line
            of text, from the threads of the robots.

    Raises InputError if the address cannot be had, or is not loopback and `insecure` is not set.
    """

    def __init__(
        self,
        plan: Plan,
        digest: bytes,
        engines: Mapping[str, Engine],
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        insecure: bool = False,
        timeout: float = 10.0,
        on_event: Callable[[str, str], None] = _silent,
    ) -> None:
        if not insecure and not _is_loopback(host):
            raise InputError(
                f"{host} is not loopback, and peers are not authenticated; use 127.0.0.1 and a "
                f"tunnel, or allow it with --insecure"
            )
        self._plan = plan
        self._digest = digest
        self._engines = engines
        self._timeout = timeout
        self._on_event = on_event
        self._stopping = threading.Event()
        self._robots: set[threading.Thread] = set()
        try:
            self._listener = socket.create_server((host, port), backlog=64)
        except OSError as error:
            raise InputError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        self._listener.settimeout(_POLL_S)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port it listens on."""
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    def serve_forever(self) -> None:
        """Serve until `shutdown`; then let steps that have begun end."""
        try:
            while not self._stopping.is_set():
                try:
                    sock, peer = self._listener.accept()
                except TimeoutError:
                    continue
                except socket.timeout:  # noqa: UP041  # its own class until Python 3.10
                    continue
                self._start(sock, f"{peer[0]}:{peer[1]}")
        finally:
            self._listener.close()
            for robot in list(self._robots):
                robot.join(self._timeout)

    def shutdown(self) -> None:
        """Ask `serve_forever` to return; safe from a signal handler or another thread."""
        self._stopping.set()

    def _start(self, sock: socket.socket, peer: str) -> None:
        robot = threading.Thread(target=self._serve, args=(sock, peer), name=peer, daemon=True)
        self._robots = {thread for thread in self._robots if thread.is_alive()} | {robot}
        robot.start()

    def _serve(self, sock: socket.socket, peer: str) -> None:
        """One robot, from handshake to end; whatever it does, the others go on."""
        connection: Connection | None = None
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answer(sock, self._digest, _HANDSHAKE_S)
            connection = Connection(sock, Layout(self._plan, Side.CLOUD), self._timeout)
            self._on_event("connected", peer)
            while self._step(connection):
                pass
            self._on_event("left", peer)
        except PeerLost as error:
            self._on_event("lost", f"{peer}: {error}")
        except WireError as error:
            self._refuse(connection, "refused", f"{peer}: {error}")
        except BackendError as error:
            self._refuse(connection, "failed", f"{peer}: {error}")
        finally:
            sock.close()

    def _refuse(self, connection: Connection | None, kind: str, text: str) -> None:
        self._on_event(kind, text)
        if connection is not None:
            connection.send_error(text)

    def _step(self, connection: Connection) -> bool:
        """Serve the next step; False when the robot left, or the server is stopping."""
        while not connection.wait_idle(_POLL_S):
            if self._stopping.is_set():
                return False
        if connection.ended():
            return False
        header = connection.peek()
        if header.variant >= len(self._plan.variants):
            raise WireError(f"there is no variant {header.variant}")
        walk = Walk(self._plan, Side.CLOUD, self._engines, connection, header.step, header.variant)
        walk.run({}, ())
        return True


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
