"""A stranger: a connection whose handshake is in progress, without a thread and without waiting."""

from __future__ import annotations

import selectors
import socket
import ssl
import time
from contextlib import suppress

from vlacut.errors import PeerLost
from vlacut.runtime.wire.protocol.greeting import (
    GREETING_BYTES,
    GREETING_START_BYTES,
    VERSION,
    unpack_version,
)
from vlacut.runtime.wire.security import no_tls

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Stranger:
    """The handshake of a connection up to its greeting: TLS, then the bytes.

    Args:
        sock: accepted; this object owns it.
        peer: whose it is, for people.
        context: None for a plain connection.

    Attributes:
        sock: in TLS, once that has begun.
        greeting: the bytes that have come.
        arrived_ns: when the last of them did, on the clock of `time.perf_counter_ns`.
        waits: for which events of the socket.
        number: of the file descriptor.
    """

    def __init__(self, sock: socket.socket, peer: str, context: ssl.SSLContext | None) -> None:
        self.sock = sock
        self.peer = peer
        self.greeting = b""
        self.arrived_ns = 0
        self.waits = READ
        self.number = sock.fileno()
        self._context = context
        self._secured = context is None
        sock.setblocking(False)

    def advance(self) -> bool:
        """Go on as far as can be done at once; whether the greeting is whole.

        Raises PeerLost or PeerRefused, as `secure` does, or WireError: it is no vlacut's.
        """
        self.waits = READ
        try:
            if not self._secured:
                self._secure()
            return self._read()
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except ssl.SSLWantWriteError:
            self.waits = WRITE
            return False
        except (OSError, ValueError) as error:  # ValueError: it ended before TLS began
            lost = PeerLost("it hung up in the handshake") if self._secured else no_tls(error)
            raise lost from error

    def _secure(self) -> None:
        # Only once the first bytes have come: TLS has to be set up for each.
        if self._context is not None and not isinstance(self.sock, ssl.SSLSocket):
            self.sock = self._context.wrap_socket(
                self.sock, server_side=True, do_handshake_on_connect=False
            )
        assert isinstance(self.sock, ssl.SSLSocket)
        self.sock.do_handshake()
        self._secured = True

    def _read(self) -> bool:
        while True:
            chunk = self.sock.recv(self._lacks)
            if not chunk:
                raise PeerLost("it hung up in the handshake")
            self.greeting += chunk
            if not self._lacks:
                self.arrived_ns = time.perf_counter_ns()
                return True

    @property
    def _lacks(self) -> int:
        """How many bytes are still to come; a greeting of another version is only begun."""
        have = len(self.greeting)
        if have < GREETING_START_BYTES:
            return GREETING_START_BYTES - have
        if unpack_version(self.greeting[:GREETING_START_BYTES]) != VERSION:
            return 0
        return GREETING_BYTES - have

    def say(self, data: bytes) -> None:
        """Send a few bytes, if they can be sent at once."""
        with suppress(OSError):
            self.sock.send(data)

    def part(self) -> None:
        """Say no more, and let the other side read what was said last."""
        with suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_WR)

    def drained(self) -> bool:
        """Whether the other side has ended, too; what it says meanwhile is not read."""
        try:
            while chunk := socket.socket.recv(self.sock, 4096):
                del chunk
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        """End it at once."""
        self.sock.close()
