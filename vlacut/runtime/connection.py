"""A connection: frames over a socket, plain or TLS. Bytes go from and to the tensors themselves."""

from __future__ import annotations

import math
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlacut.errors import DeadlineMissed, PeerLost, PeerRefused, WireError
from vlacut.runtime.layout import Layout, Room
from vlacut.runtime.mover import Mover
from vlacut.runtime.outbox import Outbox, advance, lost
from vlacut.runtime.wire import (
    ERROR,
    HEADER_BYTES,
    MAX_ERROR_BYTES,
    Header,
    checksum,
    flat_bytes,
    unpack_header,
)


class PeerLeft(PeerLost):
    """The other side closed the connection between two frames, as is proper."""


@dataclass(frozen=True)
class Frame:
    """A frame of tensors, received.

    Attributes:
        header: what it is.
        tensors: overwritten by the same transfer of the next step.
        times: those that the cloud sends along; none from the edge.
        arrived_ns: this side's clock when it was complete.
    """

    header: Header
    tensors: tuple[np.ndarray, ...]
    times: tuple[int, ...]
    arrived_ns: int


class Connection:
    """Frames over a socket, for one thread; another one moves bytes only while `moving`.

    What a send cannot send at once waits until something is received, `moving` or `flush`.

    Args:
        sock: connected, in TLS or not; this object owns it from now on.
        layout: what frames of this bundle look like, seen from the receiving side.
        timeout: seconds without any progress after which the peer counts as lost.

    Attributes:
        until: when to give up with DeadlineMissed, on the clock of `time.monotonic`.
        dropped: frames received of steps that are over.
    """

    def __init__(self, sock: socket.socket, layout: Layout, timeout: float) -> None:
        sock.setblocking(False)
        self.until = math.inf
        self.dropped = 0
        self._sock = sock
        self._tls = isinstance(sock, ssl.SSLSocket)
        self._layout = layout
        self._room_for = layout.most_frames + 1  # so that a later step is seen behind a whole one
        self._timeout = timeout
        self._poll = select.poll()
        self._inbox: deque[Frame] = deque()
        self._outbox = Outbox(sock)
        self._newest = 0
        self._last = (-1, 0)
        self._unanswered_since = math.inf
        self._header = bytearray(HEADER_BYTES)
        self._into: deque[memoryview] = deque((memoryview(self._header),))
        self._current: tuple[Header, int, Room] | None = None

    def close(self) -> None:
        """End the connection; calling it again does nothing."""
        self._sock.close()

    @property
    def silent_s(self) -> float:
        """For how long something sent has gone without any byte in return."""
        return max(0.0, time.monotonic() - self._unanswered_since)

    def send(self, header: Header, payload: Sequence[np.ndarray]) -> None:
        """Begin to send a frame, behind those before it; its arrays must stay as they are until
        `flush`. Raises PeerLost if the connection ended.
        """
        views = [memoryview(header.pack(checksum(header, payload)))]
        views.extend(flat_bytes(array).data for array in payload if array.nbytes)
        self._outbox.add(views)
        self._outbox.push()
        self._unanswered_since = min(self._unanswered_since, time.monotonic())

    def flush(self) -> None:
        """Send what is left. Raises PeerLost if the peer does not take it, DeadlineMissed."""
        while self._outbox:
            if not self._outbox.push():
                self._wait(select.POLLIN)

    @property
    def torn(self) -> bool:
        """Whether a frame was not sent as a whole: once its step is over, the connection is of no
        more use.
        """
        return bool(self._outbox)

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent."""
        return self._outbox.nbytes

    def moving(self, step: int) -> Mover:
        """While entered, bytes move in both directions, those that come up to this step's.

        A later step's would overwrite what an engine still reads.
        """
        return Mover(lambda stop: self._move(stop, step))

    def _move(self, stop: int, step: int) -> None:
        poll = select.poll()
        poll.register(stop, select.POLLIN)
        while True:
            while self._outbox.push() or (self._takes(step) and self._read()):
                pass
            events = select.POLLOUT if self._outbox else 0
            events |= select.POLLIN if self._takes(step) else 0
            poll.register(self._sock, events)
            ended = select.POLLHUP | select.POLLERR | select.POLLNVAL
            for ready, what in poll.poll(self._timeout * 1e3):
                if ready == stop or what & ended:  # if it ended, whoever reads next says so
                    return

    def send_error(self, text: str) -> None:
        """Tell the peer why the connection ends, if it still listens."""
        if self.torn:
            return
        data = np.frombuffer(text.encode()[:MAX_ERROR_BYTES], np.uint8)
        header = Header(ERROR, 0, 0, 0, 0, data.nbytes)
        try:
            self._sock.send(header.pack(checksum(header, [data])) + data.tobytes())
        except OSError:
            return  # it does not: the caller is about to close the connection anyway

    def receive(self, step: int = 0) -> Frame:
        """The next frame of this step or a later one, in order; those of earlier ones are dropped.

        Raises PeerLost or WireError, PeerRefused with the reason the peer gives, DeadlineMissed.
        """
        while True:
            while not self._inbox:
                if not self._outbox.push() and not self._read():
                    self._wait(select.POLLIN)
            frame = self._inbox.popleft()
            if frame.header.step >= step:
                return frame
            self.dropped += 1

    def peek(self, seconds: float) -> Header | None:
        """The header of the next frame, which stays the next; None if none begins in time.

        Raises PeerLeft, PeerLost or WireError.
        """
        if not self._inbox and not self._read():
            self._poll.register(self._sock, select.POLLIN)
            if not self._poll.poll(seconds * 1e3):
                return None
        self.put_back(self.receive())
        return self._inbox[0].header

    def put_back(self, frame: Frame) -> None:
        """Make a received frame the next one again."""
        self._inbox.appendleft(frame)

    def superseded(self, step: int) -> bool:
        """Whether a frame of a later step has arrived."""
        while self._newest <= step and len(self._inbox) < self._room_for and self._read():
            pass
        return self._newest > step

    def check_deadline(self) -> None:
        """Raises DeadlineMissed once it is."""
        if time.monotonic() >= self.until:
            raise DeadlineMissed("the deadline passed before the step was complete")

    def _takes(self, step: int) -> bool:
        """Whether there is room, and what comes is not of a later step."""
        later = self._current is not None and self._current[0].step > step
        return not self._full and not later

    @property
    def _full(self) -> bool:
        return len(self._inbox) >= self._room_for

    def _wait(self, events: int) -> None:
        left = self.until - time.monotonic()
        if self._sock.fileno() < 0:
            raise PeerLost("the connection was closed")
        events = 0 if self._full else events
        events |= select.POLLOUT if self._outbox else 0
        self._poll.register(self._sock, events)
        ready = self._poll.poll(max(0.0, min(left, self._timeout)) * 1e3)
        if not ready:
            self.check_deadline()
            raise PeerLost(f"no answer for {self._timeout:g} s; is the other side still running?")
        if ready[0][1] & select.POLLIN and events & select.POLLOUT:
            self._read()

    def _read(self) -> bool:
        """Read what is there; False if that is nothing."""
        try:
            if self._tls:
                count = self._sock.recv_into(self._into[0])
            else:
                count = self._sock.recvmsg_into(list(self._into))[0]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError as error:
            raise lost(error) from error
        if count == 0:
            kind = PeerLost if self._current or len(self._into[0]) < HEADER_BYTES else PeerLeft
            raise kind("the other side closed the connection")
        self._unanswered_since = math.inf
        advance(self._into, count)
        if not self._into:
            self._complete()
        return True

    def _complete(self) -> None:
        """A header or a payload is whole."""
        if self._current is None:
            self._begin_payload(*unpack_header(self._header))
            if self._into:
                return
        assert self._current is not None
        header, check, room = self._current
        if checksum(header, (room.times, *room.tensors)) != check:
            raise PeerLost("bytes were altered on the way: the checksum of a frame is wrong")
        if header.kind == ERROR:
            text = bytes(room.tensors[0]).decode(errors="replace")
            raise PeerRefused(f"the other side refused: {text}")
        if header.step > self._newest:  # whoever sent it has given the earlier steps up
            self.dropped += len(self._inbox)
            self._inbox.clear()
            self._newest = header.step
        times = tuple(room.times.tolist())
        self._inbox.append(Frame(header, room.tensors, times, time.perf_counter_ns()))
        self._current = None
        self._into.append(memoryview(self._header))

    def _begin_payload(self, header: Header, check: int) -> None:
        if header.kind == ERROR:
            if header.nbytes > MAX_ERROR_BYTES:
                raise WireError(f"the peer sent an error of {header.nbytes} bytes")
            text = np.empty(MAX_ERROR_BYTES, np.uint8)[: header.nbytes]
            room = Room(np.empty(0, ">u8"), (text,))
        else:
            rank, room = self._layout.room(header.variant, header.position, header.trip)
            if (header.step, rank) <= self._last:
                raise WireError(f"the peer sent transfer {header.position} twice or out of turn")
            self._last = (header.step, rank)
            if header.nbytes != room.nbytes:
                raise WireError(
                    f"the peer sent {header.nbytes} bytes for transfer {header.position}, "
                    f"which has {room.nbytes}"
                )
        self._current = (header, check, room)
        arrays = (room.times, *room.tensors)
        self._into.extend(flat_bytes(array).data for array in arrays if array.nbytes)
