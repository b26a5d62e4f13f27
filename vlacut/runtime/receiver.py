"""A receiver: frames out of a stream. Bytes go to where the tensors are to be."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vlacut.errors import PeerLost, PeerRefused, WireError
from vlacut.runtime.burst import Burst, BurstMeter
from vlacut.runtime.layout import Layout, Room
from vlacut.runtime.outbox import advance
from vlacut.runtime.route import Due
from vlacut.runtime.stream import Stream
from vlacut.runtime.wire import (
    ERROR,
    FIXED_TIMES,
    HEADER_BYTES,
    MAX_ERROR_BYTES,
    PROBE,
    Header,
    checksum,
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


class Receiver:
    """Reads frames, and keeps those that nobody has taken yet.

    Args:
        stream: they come from.
        layout: what they look like, seen from this side.
        checked: whether checksums cover tensors.

    Attributes:
        dropped: frames of steps that are over.
        answered: whether any frame was received.
        newest: the latest step of which a frame was received.
        meter: told of waits for the stream that are not `read`'s own.
    """

    def __init__(self, stream: Stream, layout: Layout, checked: bool) -> None:
        self.dropped = 0
        self.answered = False
        self.newest = 0
        self.meter = BurstMeter()
        self._stream = stream
        self._layout = layout
        self._checked = checked
        self._room_for = layout.most_frames + 1  # so that a later step is seen behind a whole one
        self._inbox: deque[Frame] = deque()
        self._heard: deque[Heard] = deque(maxlen=_MOST_HEARD)
        self._last = (-1, 0)
        self._header = bytearray(HEADER_BYTES)
        self._header_view = memoryview(self._header)
        self._into = deque((self._header_view,))
        self._lacks = HEADER_BYTES  # bytes until `_into` is full
        self._begun = 0  # bytes received of a frame whose header is not whole
        self._guess: Room | None = None  # what `_into` takes it for
        self._current: tuple[Header, int, Room] | None = None  # the frame whose header is

    def __bool__(self) -> bool:
        return bool(self._inbox)

    @property
    def first(self) -> Frame:
        """The next frame, which stays the next."""
        return self._inbox[0]

    def take(self) -> Frame:
        """The next frame."""
        return self._inbox.popleft()

    def put_back(self, frame: Frame) -> None:
        """Make a frame the next one again."""
        self._inbox.appendleft(frame)

    @property
    def full(self) -> bool:
        """Whether to read no more before a frame is taken."""
        return len(self._inbox) >= self._room_for

    @property
    def later(self) -> int:
        """The step of the frame that is coming in; 0 if none is, as far as one knows."""
        return self._current[0].step if self._current else 0

    @property
    def between(self) -> bool:
        """Whether nothing of a frame has come in yet."""
        return self._current is None and not self._begun

    def take_heard(self) -> list[Heard]:
        """What frames said of the network since the last call, also frames that were dropped."""
        heard = list(self._heard)
        self._heard.clear()
        return heard

    def expect(self, due: Due) -> None:
        """The next frame should be this one: its room receives along with its header."""
        if self._begun or self._current is not None:
            return
        self._guess = self._layout.room(*due)[1]
        self._into = deque((self._header_view, *self._guess.views))
        self._lacks = HEADER_BYTES + self._guess.nbytes

    def read(self, wait: bool = False) -> bool:
        """Read what is there or, with `wait`, what comes within the stream's limit.

        False if that is nothing. Raises PeerLeft, PeerLost, WireError, or PeerRefused with the
        reason that the peer gives.
        """
        meter, count = self.meter, None
        if not wait or meter.unread:
            count = self._stream.take(self._into)
            if count is None:
                meter.emptied()
        if wait and count is None:
            meter.waited()
            count = self._stream.fill(self._into, self._guess is None and meter.close)
        if count is None:
            return False
        if count == 0:
            kind = PeerLeft if self.between else PeerLost
            raise kind("the other side closed the connection")
        meter.took(count, time.perf_counter_ns())
        if count < self._lacks:
            meter.emptied()
        self._arrived(count)
        return True

    def _arrived(self, count: int) -> None:
        """So many more bytes are where they were to go."""
        self._lacks -= count
        if self._lacks:
            advance(self._into, count)
        else:
            self._into.clear()
        if self._current is None:
            self._begun += count
            if self._begun < HEADER_BYTES:
                return
            self._begin_payload(self._begun - HEADER_BYTES)
        if not self._lacks:
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
        self._into, self._lacks = deque(room.views), room.nbytes
        while astray:
            if not self._lacks:  # the payload is empty
                self._complete()
            count = min(len(astray), len(self._into[0]))
            self._into[0][:count] = astray[:count]
            astray = astray[count:]
            self._arrived(count)

    def _complete(self) -> None:
        """A payload is whole."""
        assert self._current is not None
        header, check, room = self._current
        meter, now = self.meter, time.perf_counter_ns()
        burst = meter.finish(self._stream.rtt_ns if meter.several else None)
        payload = (room.times, *room.tensors) if self._checked else ()
        if checksum(header, payload) != check:
            raise PeerLost("bytes were altered on the way: the checksum of a frame is wrong")
        if header.kind == ERROR:
            text = bytes(room.tensors[0]).decode(errors="replace")
            raise PeerRefused(f"the other side refused: {text}")
        if header.step > self.newest:  # whoever sent it has given the earlier steps up
            self.dropped += len(self._inbox)
            self._inbox.clear()
            self.newest = header.step
        self.answered = True
        times = tuple(room.times.tolist())
        self._heard.append(Heard(header, burst, times[:FIXED_TIMES]))
        if header.kind != PROBE or not times:
            self._inbox.append(Frame(header, room, times, now, burst))
        self._current = None
        self._into.append(self._header_view)
        self._lacks = HEADER_BYTES

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
    nbytes = spent_ns = 0
    for _, burst, _ in heard:
        nbytes += burst.train_bytes
        spent_ns += burst.train_ns
    return nbytes, spent_ns
