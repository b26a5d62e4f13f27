"""The wire: how the two sides of one bundle talk.

One TCP connection, without Nagle's delay. Numbers are big-endian; tensors are raw, packed,
little-endian, as numpy lays them out.

**Handshake.** The edge sends a greeting of 44 bytes: the magic `VLACUT`, two zero bytes, the
protocol version (u16), a status (u16, zero) and the SHA-256 digest of its bundle's manifest. The
cloud answers with a greeting of its own; a status other than zero is a refusal, and the connection
ends there. Each side compares version and digest, so two sides that hold different bundles never
exchange a tensor.

**Frames.** After the handshake either side sends frames. A frame is a header of 32 bytes and a
payload. The header: magic 0x5643 (u16), kind (u8: 1 tensors, 2 error), a zero byte, the variant
(u16), the position (u16), the trip (u16), two zero bytes, a zero word (u32), the step (u64) and the
payload's length (u64). Variant, position and trip say which Transfer of which schedule this is:
position counts the flattened schedule, trip the turns of the loop around it. So the length of the
payload is known to the receiver, and a frame that claims another is refused: no number from the
peer ever sizes an allocation. Which variant runs is the sender's to say, frame by frame.

**Tensors.** The payload of a frame from the cloud starts with one u64 for every cloud part of the
variant: nanoseconds spent in it so far in this step. Then, in either direction, come the tensors of
the Transfer, in its order, without gaps.

**Errors.** The payload of an error frame is one line of UTF-8, at most 512 bytes. It ends the
connection.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlacut.errors import PeerLost, WireError
from vlacut.runtime.layout import Layout

VERSION = 1
MAX_ERROR_BYTES = 512
_MAGIC = b"VLACUT\0\0"
_GREETING = struct.Struct("!8sHH32s")
_HEADER = struct.Struct("!HBxHHHxxxxxxQQ")
_FRAME_MAGIC = 0x5643
TENSORS, ERROR = 1, 2
OK, OTHER_BUNDLE, OTHER_VERSION = 0, 1, 2


@dataclass(frozen=True)
class Header:
    """What a frame is: see the module's docstring."""

    kind: int
    variant: int
    position: int
    trip: int
    step: int
    nbytes: int

    def pack(self) -> bytes:
        """The 32 bytes on the wire."""
        ids = (self.variant, self.position, self.trip, self.step, self.nbytes)
        return _HEADER.pack(_FRAME_MAGIC, self.kind, *ids)


def unpack_header(data: bytes | bytearray | memoryview) -> Header:
    """The header in 32 bytes; WireError if it is none."""
    magic, kind, variant, position, trip, step, nbytes = _HEADER.unpack(data)
    if magic != _FRAME_MAGIC or kind not in (TENSORS, ERROR):
        raise WireError(f"the peer sent no frame (magic {magic:#06x}, kind {kind})")
    return Header(kind, variant, position, trip, step, nbytes)


@dataclass(frozen=True)
class Frame:
    """A frame of tensors, received."""

    header: Header
    tensors: tuple[np.ndarray, ...]
    cloud_ns: tuple[int, ...]


class Connection:
    """Frames over a socket. Single-threaded: a send that would block reads meanwhile.

    Args:
        sock: connected; this object owns it from now on.
        layout: what frames of this bundle look like, seen from the receiving side.
        timeout: seconds without any progress after which the peer counts as lost.
    """

    def __init__(self, sock: socket.socket, layout: Layout, timeout: float) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._layout = layout
        self._timeout = timeout
        self._poll = select.poll()
        self._inbox: deque[Frame] = deque()
        self._header = bytearray(_HEADER.size)
        self._into: deque[memoryview] = deque((memoryview(self._header),))
        self._current: tuple[Header, tuple[np.ndarray, ...], np.ndarray] | None = None

    def close(self) -> None:
        """End the connection; calling it again does nothing."""
        self._sock.close()

    def send(self, header: Header, buffers: Sequence[np.ndarray]) -> None:
        """Send a frame. Raises PeerLost if the peer does not take it in time."""
        views: deque[memoryview] = deque((memoryview(header.pack()),))
        views.extend(_view(array) for array in buffers if array.nbytes)
        while views:
            try:
                sent = self._sock.sendmsg(views)
            except BlockingIOError:
                self._wait(select.POLLIN | select.POLLOUT, self._timeout)
                continue
            except OSError as error:
                self._raise_lost(error)
            _advance(views, sent)

    def send_error(self, text: str) -> None:
        """Tell the peer why the connection ends, if it still listens."""
        data = text.encode()[:MAX_ERROR_BYTES]
        header = Header(ERROR, 0, 0, 0, 0, len(data))
        try:
            self._sock.sendmsg([header.pack(), data])
        except OSError:
            return  # it does not: the caller is about to close the connection anyway

    def receive(self, timeout: float | None = None) -> Frame:
        """The next frame, in order. Raises PeerLost or WireError."""
        while not self._inbox:
            if not self._read():
                self._wait(select.POLLIN, self._timeout if timeout is None else timeout)
        return self._inbox.popleft()

    def peek(self) -> Header:
        """The header of the next frame, which stays the next. Raises PeerLost or WireError."""
        self._inbox.appendleft(self.receive())
        return self._inbox[0].header

    def wait_idle(self, seconds: float) -> bool:
        """Whether a frame, or the end of the connection, is there within so many seconds."""
        if self._inbox:
            return True
        self._poll.register(self._sock, select.POLLIN)
        return bool(self._poll.poll(seconds * 1e3))

    def ended(self) -> bool:
        """Whether the peer closed the connection between two frames, as is proper."""
        if self._inbox or self._current is not None:
            return False
        try:
            return not self._sock.recv(1, socket.MSG_PEEK)
        except OSError:
            return False  # nothing there yet, or an error that `receive` will report

    def _wait(self, events: int, timeout: float) -> None:
        self._poll.register(self._sock, events)
        ready = self._poll.poll(timeout * 1e3)
        if not ready:
            raise PeerLost(f"no answer for {timeout:g} s; is the other side still running?")
        if ready[0][1] & select.POLLIN and events & select.POLLOUT:
            self._read()

    def _read(self) -> bool:
        """Read what is there; False if that is nothing."""
        try:
            count = self._sock.recvmsg_into(list(self._into))[0]
        except BlockingIOError:
            return False
        except OSError as error:
            self._raise_lost(error)
        if count == 0:
            raise PeerLost("the other side closed the connection")
        _advance(self._into, count)
        if not self._into:
            self._complete()
        return True

    def _complete(self) -> None:
        """A header or a payload is whole."""
        if self._current is None:
            self._begin_payload(unpack_header(self._header))
        else:
            header, tensors, times = self._current
            if header.kind == ERROR:
                text = bytes(tensors[0]).decode(errors="replace")
                raise WireError(f"the other side refused: {text}")
            self._inbox.append(Frame(header, tensors, tuple(int(ns) for ns in times)))
            self._begin_header()
            return
        if not self._into:  # a frame of tensors without elements
            self._complete()

    def _begin_header(self) -> None:
        self._current = None
        self._into.append(memoryview(self._header))

    def _begin_payload(self, header: Header) -> None:
        if header.kind == ERROR:
            if header.nbytes > MAX_ERROR_BYTES:
                raise WireError(f"the peer sent an error of {header.nbytes} bytes")
            tensors: tuple[np.ndarray, ...] = (np.empty(header.nbytes, np.uint8),)
            times = np.empty(0, ">u8")
        else:
            tensors, times = self._layout.buffers(header.variant, header.position)
            expected = times.nbytes + sum(tensor.nbytes for tensor in tensors)
            if header.nbytes != expected:
                raise WireError(
                    f"the peer sent {header.nbytes} bytes for transfer {header.position}, "
                    f"which has {expected}"
                )
        self._current = (header, tensors, times)
        self._into.extend(_view(array) for array in (times, *tensors) if array.nbytes)

    def _raise_lost(self, error: OSError) -> None:
        raise PeerLost(f"the connection ended: {error.strerror or error}") from error


def _view(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _advance(views: deque[memoryview], count: int) -> None:
    """Drop the first `count` bytes."""
    while count:
        if count < len(views[0]):
            views[0] = views[0][count:]
            return
        count -= len(views.popleft())


def greet(sock: socket.socket, digest: bytes, timeout: float) -> None:
    """The edge's half of the handshake. Raises PeerLost, or WireError if the cloud refuses."""
    sock.settimeout(timeout)
    _send_greeting(sock, OK, digest)
    version, status, other = _read_greeting(sock)
    if version != VERSION:
        raise WireError(f"the cloud speaks protocol {version}, this edge {VERSION}; update one")
    if status == OTHER_BUNDLE or other != digest:
        raise WireError(
            f"the cloud holds another bundle ({other.hex()[:12]}) than this edge "
            f"({digest.hex()[:12]}); deploy the same one on both sides"
        )
    if status != OK:
        raise WireError(f"the cloud refused this edge with status {status}")


def answer(sock: socket.socket, digest: bytes, timeout: float) -> None:
    """The cloud's half of the handshake. Raises PeerLost, or WireError if it refused."""
    sock.settimeout(timeout)
    version, _, other = _read_greeting(sock)
    status = OTHER_VERSION if version != VERSION else OK if other == digest else OTHER_BUNDLE
    _send_greeting(sock, status, digest)
    if status == OTHER_VERSION:
        raise WireError(f"an edge speaks protocol {version}, this cloud {VERSION}")
    if status == OTHER_BUNDLE:
        raise WireError(
            f"an edge holds another bundle ({other.hex()[:12]}) than this cloud "
            f"({digest.hex()[:12]})"
        )


def _send_greeting(sock: socket.socket, status: int, digest: bytes) -> None:
    try:
        sock.sendall(_GREETING.pack(_MAGIC, VERSION, status, digest))
    except OSError as error:
        raise PeerLost(f"the connection ended in the handshake: {error}") from error


def _read_greeting(sock: socket.socket) -> tuple[int, int, bytes]:
    data, end = b"", time.monotonic() + (sock.gettimeout() or 0.0)
    while len(data) < _GREETING.size:
        try:
            chunk = sock.recv(_GREETING.size - len(data))
        except OSError as error:
            raise PeerLost(f"the connection ended in the handshake: {error}") from error
        if not chunk or time.monotonic() > end:
            raise PeerLost("the other side did not finish the handshake")
        data += chunk
    magic, version, status, digest = _GREETING.unpack(data)
    if magic != _MAGIC:
        raise WireError("the other side is no vlacut: check host and port")
    return version, status, digest
