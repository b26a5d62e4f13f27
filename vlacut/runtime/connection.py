"""A connection: frames over a stream. Bytes go from and to the tensors themselves."""

from __future__ import annotations

import math
import socket
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vlacut.errors import DeadlineMissed, PeerLost, PeerRefused, WireError
from vlacut.runtime.burst import Burst, BurstMeter
from vlacut.runtime.layout import Layout, Room
from vlacut.runtime.mover import Mover
from vlacut.runtime.outbox import Outbox, advance
from vlacut.runtime.route import Due
from vlacut.runtime.stream import ENDED, IN, OUT, TlsStream, stream_of
from vlacut.runtime.wire import (
    ERROR,
    FIXED_TIMES,
    HEADER_BYTES,
    MAX_ERROR_BYTES,
    PROBE,
    Header,
    checksum,
    flat_bytes,
    unpack_header,
)

_MOST_HEARD = 256


class PeerLeft(PeerLost):
    """The other side closed the connection between two frames, as is proper."""


class Frame(NamedTuple):
    """A frame of tensors, received.

    Attributes:
        header: what it is.
        room: with the tensors; overwritten by the same transfer of the next step.
        times: those that the cloud sends along; none from the edge.
        arrived_ns: this side's clock when it was complete.
        burst: how it came in.
    """

    header: Header
    room: Room
    times: tuple[int, ...]
    arrived_ns: int
    burst: Burst

    @property
    def nbytes(self) -> int:
        """On the connection: header and payload."""
        return HEADER_BYTES + self.header.nbytes

    @property
    def tensors(self) -> tuple[np.ndarray, ...]:
        """What came over the wire."""
        return self.room.tensors


class Heard(NamedTuple):
    """What a frame said of the network.

    Attributes:
        header: what it is.
        burst: how it came in.
        times: the fixed ones that the cloud sends along; none from the edge.
    """

    header: Header
    burst: Burst
    times: tuple[int, ...]


class Connection:
    """Frames over a socket. Used by one thread at a time.

    What a send cannot send at once waits until something is received, `moving` or `flush`.

    Args:
        sock: connected, in TLS or not; this object owns it from now on.
        layout: what frames of this bundle look like, seen from the receiving side.
        timeout: seconds without any progress after which the peer counts as lost.
        checked: whether checksums cover tensors, as the handshake said.

    Attributes:
        until: when to give up with DeadlineMissed, on the clock of `time.monotonic`.
        dropped: frames received of steps that are over.
        answered: whether any frame was received.
        encoded: see `Layout.encoded`.
    """

    def __init__(
        self, sock: socket.socket, layout: Layout, timeout: float, *, checked: bool = True
    ) -> None:
        self.until = math.inf
        self.dropped = 0
        self.answered = False
        self.encoded = layout.encoded
        self._heard: deque[Heard] = deque(maxlen=_MOST_HEARD)
        self._meter = BurstMeter()
        self._stream = stream_of(sock, timeout)
        self._tls = isinstance(self._stream, TlsStream)
        self._outbox = Outbox(self._stream)
        self._layout = layout
        self._room_for = layout.most_frames + 1  # so that a later step is seen behind a whole one
        self._timeout = timeout
        self._checked = checked
        self._closed = False
        self._inbox: deque[Frame] = deque()
        self._newest = 0
        self._last = (-1, 0)
        self._unanswered_since = math.inf
        self._header = bytearray(HEADER_BYTES)
        self._header_view = memoryview(self._header)
        self._into = deque((self._header_view,))
        self._begun = 0  # bytes received of a frame whose header is not whole
        self._guess: Room | None = None  # what `_into` takes it for
        self._current: tuple[Header, int, Room] | None = None  # the frame whose header is

    def close(self) -> None:
        """End it, also for a thread that waits for it; calling it again does nothing."""
        self._closed = True
        self._stream.close()

    @property
    def silent_s(self) -> float:
        """For how long something sent has gone without any byte in return."""
        return max(0.0, time.monotonic() - self._unanswered_since)

    def send(self, header: Header, payload: Sequence[np.ndarray]) -> None:
        """Begin to send a frame, behind those before it; its arrays must stay as they are until
        `flush`. Raises PeerLost if the connection ended.
        """
        packed = header.pack(self._checksum(header, payload))
        sent = 0
        if not (self._tls or self._outbox):
            sent = self._stream.put([packed, *map(_packed, payload)])
        if sent < HEADER_BYTES + header.nbytes:
            arrays = (flat_bytes(array).data for array in payload if array.nbytes)
            self._outbox.add([packed, *arrays], sent)
            self._outbox.push()
        if self._unanswered_since == math.inf:
            self._unanswered_since = time.monotonic()

    def begin(self) -> None:
        """A step begins. What one that was given up still has to send stays as it is."""
        if self._outbox:
            self._layout.leave_written()

    def flush(self) -> None:
        """Send what is left. Raises PeerLost if the peer does not take it, DeadlineMissed."""
        while self._outbox:
            if not self._outbox.push():
                self._wait(IN)

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
        while True:
            while self._outbox.push() or (self._takes(step) and self._read()):
                pass
            events = OUT if self._outbox else 0
            events |= IN if self._takes(step) else 0
            ready = self._stream.wait_or(stop, events, self._timeout)
            if ready & ENDED:  # or stopped; if it ended, whoever reads next says so
                return
            self._meter.waited()

    def send_error(self, text: str) -> None:
        """Tell the peer why the connection ends, if it still listens."""
        if self.torn:
            return
        data = np.frombuffer(text.encode()[:MAX_ERROR_BYTES], np.uint8)
        header = Header(ERROR, 0, 0, 0, 0, data.nbytes)
        try:
            self._stream.put([header.pack(self._checksum(header, [data])) + data.tobytes()])
        except PeerLost:
            return  # it does not: the caller is about to close the connection anyway

    def receive(self, step: int = 0, due: Due | None = None) -> Frame:
        """The next frame of this step or a later one, in order; those of earlier ones are dropped.

        `due` is which one that should be: its room receives along with its header. On the edge an
        answer to a probe is no frame: see `take_heard`. Raises PeerLost or WireError, PeerRefused
        with the reason the peer gives, DeadlineMissed.
        """
        while True:
            while not self._inbox:
                if due is not None and self._begun == 0 and self._current is None:
                    self._guess = self._layout.room(*due)[1]
                    self._into = deque((self._header_view, *self._guess.views))
                if self._stream.waits and self.until == math.inf and not self._outbox:
                    if not self._read(wait=True):
                        self._give_up()
                elif not self._outbox.push() and not self._read():
                    self._wait(IN)
            frame = self._inbox.popleft()
            if frame.header.step >= step:
                return frame
            self.dropped += 1

    def peek(self, seconds: float, due: Due | None = None) -> Header | None:
        """The header of the next frame, which stays the next; None if none begins in time.

        `due` is as for `receive`.

        Raises PeerLeft, PeerLost or WireError.
        """
        if not self._inbox:
            if not self._stream.wait(IN, seconds) and not self._read():
                return None
            self.put_back(self.receive(due=due))
        return self._inbox[0].header

    def put_back(self, frame: Frame) -> None:
        """Make a received frame the next one again."""
        self._inbox.appendleft(frame)

    def superseded(self, step: int) -> bool:
        """Whether a frame of a later step has arrived."""
        while (
            self._newest <= step
            and len(self._inbox) < self._room_for
            and (self._tls or self._stream.wait(IN, 0))
            and self._read()
        ):
            pass
        return self._newest > step

    def listen(self) -> None:
        """Take in what has arrived, without waiting. Raises PeerLost or WireError."""
        while len(self._inbox) < self._room_for and self._read():
            pass

    def take_heard(self) -> list[Heard]:
        """What frames said of the network since the last call, also frames that were dropped."""
        heard = list(self._heard)
        self._heard.clear()
        return heard

    def check_deadline(self) -> None:
        """Raises DeadlineMissed once it is."""
        if self.until < math.inf and time.monotonic() >= self.until:
            raise DeadlineMissed("the deadline passed before the step was complete")

    def _takes(self, step: int) -> bool:
        """Whether there is room, and what comes is not of a later step."""
        later = self._current is not None and self._current[0].step > step
        return not self._full and not later

    @property
    def _full(self) -> bool:
        return len(self._inbox) >= self._room_for

    def _wait(self, events: int) -> None:
        if self._closed:
            raise PeerLost("the connection was closed")
        events = 0 if self._full else events
        events |= OUT if self._outbox else 0
        left = self.until - time.monotonic()
        ready = self._stream.wait(events, max(0.0, min(left, self._timeout)))
        if not ready:
            self._give_up()
        self._meter.waited()
        if ready & IN and events & OUT:
            self._read()

    def _give_up(self) -> None:
        self.check_deadline()
        raise PeerLost(f"no answer for {self._timeout:g} s; is the other side still running?")

    def _read(self, wait: bool = False) -> bool:
        """Read what is there, or what comes; False if that is nothing."""
        if self._closed:
            raise PeerLost("the connection was closed")
        meter, count = self._meter, None
        if not wait or meter.unread:
            count = self._stream.take(self._into)
            if count is None:
                meter.emptied()
        if wait and count is None:
            meter.waited()
            whole = self._guess is None and meter.close
            count = self._stream.fill(self._into, whole)
        if count is None:
            return False
        if count == 0:
            kind = PeerLost if self._current or self._begun else PeerLeft
            raise kind("the other side closed the connection")
        self._unanswered_since = math.inf
        meter.took(count, time.perf_counter_ns())
        if count < sum(map(len, self._into)):
            meter.emptied()
        self._arrived(count)
        return True

    def _checksum(self, header: Header, payload: Sequence[np.ndarray]) -> int:
        return checksum(header, payload if self._checked else ())

    def _arrived(self, count: int) -> None:
        """So many more bytes are where they were to go."""
        advance(self._into, count)
        if self._current is None:
            self._begun += count
            if self._begun < HEADER_BYTES:
                return
            self._begin_payload(self._begun - HEADER_BYTES)
        if not self._into:
            self._complete()

    def _begin_payload(self, ahead: int) -> None:
        """A header is whole, and so many bytes after it lie where the guess would have them."""
        header, check = unpack_header(self._header)
        guess, self._guess, self._begun = self._guess, None, 0
        room = self._room_of(header)
        self._current = (header, check, room)
        if room is guess:
            return
        astray = b"".join(guess.views)[:ahead] if guess else b""
        self._into = deque(room.views)
        while astray:
            if not self._into:  # the payload is empty
                self._complete()
            count = min(len(astray), len(self._into[0]))
            self._into[0][:count] = astray[:count]
            astray = astray[count:]
            self._arrived(count)

    def _complete(self) -> None:
        """A payload is whole."""
        assert self._current is not None
        header, check, room = self._current
        burst = self._meter.finish(self._stream.rtt_ns)
        if self._checksum(header, (room.times, *room.tensors)) != check:
            raise PeerLost("bytes were altered on the way: the checksum of a frame is wrong")
        if header.kind == ERROR:
            text = bytes(room.tensors[0]).decode(errors="replace")
            raise PeerRefused(f"the other side refused: {text}")
        if header.step > self._newest:  # whoever sent it has given the earlier steps up
            self.dropped += len(self._inbox)
            self._inbox.clear()
            self._newest = header.step
        self.answered = True
        times = tuple(room.times.tolist())
        self._heard.append(Heard(header, burst, times[:FIXED_TIMES]))
        if header.kind != PROBE or not times:
            now = time.perf_counter_ns()
            self._inbox.append(Frame(header, room, times, now, burst))
        self._current = None
        self._into.append(self._header_view)

    def _room_of(self, header: Header) -> Room:
        if header.kind == ERROR:
            if header.nbytes > MAX_ERROR_BYTES:
                raise WireError(f"the peer sent an error of {header.nbytes} bytes")
            text = np.empty(MAX_ERROR_BYTES, np.uint8)[: header.nbytes]
            return Room(np.empty(0, ">u8"), (text,))
        room = self._layout.probe_room
        if header.kind != PROBE:
            rank, room = self._layout.room(header.variant, header.position, header.trip)
            if (header.step, rank) <= self._last:
                raise WireError(f"the peer sent transfer {header.position} twice or out of turn")
            self._last = (header.step, rank)
        if header.nbytes != room.nbytes:
            raise WireError(
                f"the peer sent {header.nbytes} bytes for transfer {header.position}, "
                f"which has {room.nbytes}"
            )
        return room


def train_of(heard: Sequence[Heard]) -> tuple[int, int]:
    """Bytes and nanoseconds of all their trains; both 0 if there is none."""
    bursts = [item.burst for item in heard]
    return sum(item.train_bytes for item in bursts), sum(item.train_ns for item in bursts)


def _packed(array: np.ndarray) -> memoryview:
    """The bytes of an array, without asking numpy for a view of them where it is packed."""
    return array.data if array.flags.c_contiguous else flat_bytes(array).data
