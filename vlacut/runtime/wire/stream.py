"""A stream: bytes in and out of a connected socket, plain or TLS, and waiting for either."""

from __future__ import annotations

import select
import socket
import ssl
import struct
from collections.abc import Sequence

from vlacut.errors import PeerLost

IN, OUT = select.POLLIN, select.POLLOUT
ENDED = select.POLLHUP | select.POLLERR | select.POLLNVAL
IDLE_S = 0.2  # that `fill` waits: whoever waits longer looks up meanwhile
_SMALL = 4096
_MIN_RTT_AT, _INFO_BYTES, _NEVER = 148, 152, 2**32 - 1  # tcpi_min_rtt of linux/tcp.h
_BLOCKED = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Stream:
    """Bytes of a plain socket.

    The socket blocks, with a limit of the kernel's: where nothing else is to be watched, one call
    waits for all of a frame. Everything else says so call by call.

    Args:
        sock: connected; this object owns it from now on.
        idle_s: seconds that `fill` waits.
    """

    def __init__(self, sock: socket.socket, idle_s: float = IDLE_S) -> None:
        self._sock = sock
        self._in, self._any, self._out = select.poll(), select.poll(), select.poll()
        for poll, events in ((self._in, IN), (self._any, IN | OUT), (self._out, OUT)):
            poll.register(sock, events)
        self._prepare(idle_s)

    def _prepare(self, idle_s: float) -> None:
        self._sock.setblocking(True)
        limit = struct.pack("@ll", *divmod(max(1, round(idle_s * 1e6)), 1_000_000))
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)

    def put(self, views: Sequence[memoryview | bytes]) -> int:
        """Send some, at once; how many bytes, 0 if it would block. Raises PeerLost if it ended."""
        try:
            return self._sock.sendmsg(views, (), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise _lost(error) from error

    def take(self, views: Sequence[memoryview]) -> int | None:
        """Receive what is there; how many bytes, 0 at the end, None if nothing is.

        Raises PeerLost if the connection was reset.
        """
        try:
            return self._sock.recvmsg_into(views, 0, socket.MSG_DONTWAIT)[0]
        except BlockingIOError:
            return None
        except OSError as error:
            raise _lost(error) from error

    def fill(self, views: Sequence[memoryview], whole: bool) -> int | None:
        """Receive what comes within `idle_s` seconds, all of it if `whole`; how many bytes, and
        raises, as `take`.
        """
        try:
            return self._sock.recvmsg_into(views, 0, socket.MSG_WAITALL if whole else 0)[0]
        except BlockingIOError:
            return None
        except OSError as error:
            raise _lost(error) from error

    def wait(self, events: int, seconds: float) -> int:
        """The events (bits of `select.poll`) that come first, 0 if none does within so many
        seconds.
        """
        poll = self._in if events == IN else self._out if events == OUT else self._any
        ready = poll.poll(seconds * 1e3)
        return ready[0][1] if ready else 0

    def wait_or(self, stop: int, events: int, seconds: float) -> int:
        """As `wait`, but ENDED once the file descriptor `stop` is readable."""
        poll = select.poll()
        poll.register(stop, IN)
        poll.register(self._sock, events)
        ready = dict(poll.poll(seconds * 1e3))
        return ENDED if ready.pop(stop, 0) else sum(ready.values())

    @property
    def readable(self) -> bool:
        """Whether `take` finds something, be it the end."""
        return bool(self._in.poll(0))

    @property
    def rtt_ns(self) -> int:
        """The least round trip that the kernel has seen, in nanoseconds, to a microsecond; 0 where
        it does not say (Linux does).
        """
        if not hasattr(socket, "TCP_INFO"):
            return 0
        try:
            info = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        except OSError:
            return 0  # no TCP
        if len(info) < _INFO_BYTES:
            return 0
        least_us: int = struct.unpack_from("=I", info, _MIN_RTT_AT)[0]
        return 0 if least_us == _NEVER else least_us * 1000

    def close(self) -> None:
        """End it, also for a thread that waits for it; calling it again does nothing."""
        shut(self._sock)
        self._sock.close()


class TlsStream(Stream):
    """Bytes of a socket in TLS, which never blocks: a record may need both directions.

    It knows no `fill`, and `readable` of the socket says nothing of records already decrypted.
    """

    def _prepare(self, idle_s: float) -> None:
        self._sock.setblocking(False)

    def put(self, views: Sequence[memoryview | bytes]) -> int:
        """See `Stream.put`; of the first view alone."""
        try:
            return self._sock.send(views[0])
        except _BLOCKED:
            return 0
        except OSError as error:
            raise _lost(error) from error

    def take(self, views: Sequence[memoryview]) -> int | None:
        """See `Stream.take`."""
        count = 0
        try:
            for view in views:
                at = 0
                while at < len(view):  # a call gives a record at most
                    more = self._sock.recv_into(view[at:])
                    if not more:
                        return count
                    at, count = at + more, count + more
        except _BLOCKED:
            return count or None
        except OSError as error:
            raise _lost(error) from error
        return count


def stream_of(sock: socket.socket, idle_s: float = IDLE_S) -> Stream:
    """The stream of a socket, in TLS or not; `idle_s` seconds are its limit."""
    return (TlsStream if isinstance(sock, ssl.SSLSocket) else Stream)(sock, idle_s)


def shut(sock: socket.socket) -> None:
    """End a connection that another thread may be using; that one sees it closed."""
    try:
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not SSLSocket's, which is not for threads
    except OSError:
        return  # it has ended already


def joined(views: Sequence[memoryview | bytes]) -> list[memoryview | bytes]:
    """The same bytes with neighbours joined where they are small: a view is a TLS record."""
    made: list[memoryview | bytes] = []
    small = b""
    for view in views:
        if len(view) < _SMALL:
            small += bytes(view)
        else:
            made += [small, view] if small else [view]
            small = b""
    return [*made, small] if small else made


def _lost(error: OSError) -> PeerLost:
    return PeerLost(f"the connection ended: {error.strerror or error}")
