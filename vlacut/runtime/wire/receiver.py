"""A receiver: frames out of a stream. Bytes go to where the tensors are to be."""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from vlacut.errors import PeerLost, PeerUnable, WireError, one_line
from vlacut.hardware import Side
from vlacut.runtime.wire.burst import Burst, BurstMeter
from vlacut.runtime.wire.frame import Frame, Heard
from vlacut.runtime.wire.layout import Layout, Room
from vlacut.runtime.wire.outbox import advanced
from vlacut.runtime.wire.protocol.envelope import Envelope, checksum
from vlacut.runtime.wire.protocol.header import (
    ERROR,
    FETCH,
    HEADER_BYTES,
    PROBE,
    STATE,
    TENSORS,
    Header,
    base_of,
    step_of,
    unpack_header,
)
from vlacut.runtime.wire.protocol.payloads import MAX_ERROR_BYTES
from vlacut.runtime.wire.route import Due
from vlacut.runtime.wire.stream import Stream

_MOST_HEARD = 256
_MOST_OWED = 4096  # frames: of a few steps

Owed = tuple[int, int, tuple[int, int, int]]  # kind; step, or version of state; place


class PeerLeft(PeerLost):
    """The other side closed the connection between two frames, as is proper."""


class _Awaited:
    """A frame that is due, and where all of it goes.

    Attributes:
        envelope: what its header must be.
        rank: of its transfer among those of a step.
        payload: what a checksum covers.
        views: of the room, and of the header before it.
        nbytes: of these.
    """

    __slots__ = ("envelope", "nbytes", "payload", "rank", "room", "views")

    def __init__(self, due: Due, rank: int, room: Room, header: memoryview, checked: bool) -> None:
        self.envelope = Envelope(TENSORS, *due, room.nbytes)
        self.rank = rank
        self.room = room
        self.payload = room.payload(room.nbytes) if checked else ()
        self.views = (header, *room.views)
        self.nbytes = HEADER_BYTES + room.nbytes


class Receiver:
    """Reads frames, and keeps those that nobody has taken yet.

    Args:
        stream: they come from.
        layout: what they look like, seen from this side.
        checked: whether checksums cover tensors.

    Attributes:
        inbox: frames that nobody has taken yet.
        dropped: frames of steps that are over.
        answered: whether any frame was received.
        newest: the latest step of which a frame was received.
        unanswered_since: when something was sent after which no byte came, on the clock of
            `time.monotonic`; infinity if bytes came.
        meter: told of waits for the stream that are not `read`'s own.
        owed: frames of state that will come at any time, and where copies of their tensors go.
    """

    def __init__(self, stream: Stream, layout: Layout, checked: bool) -> None:
        self.inbox: deque[Frame] = deque()
        self.dropped = 0
        self.answered = False
        self.newest = 0
        self.unanswered_since = math.inf
        self.meter = BurstMeter()
        self._stream = stream
        self._layout = layout
        self._checked = checked
        self._room_for = layout.most_frames + 1  # so that a later step is seen behind a whole one
        self._heard: deque[Heard] = deque(maxlen=_MOST_HEARD)
        self.owed: OrderedDict[Owed, tuple[dict[str, Any], tuple[tuple[int, str], ...]]]
        self.owed = OrderedDict()
        # An edge's step mostly builds on the one before.
        self._chained = layout.remembers and layout.receiver is Side.CLOUD
        self._remembers = layout.remembers
        self._last = (-1, 0)
        self._header = bytearray(HEADER_BYTES)
        self._header_view = memoryview(self._header)
        self._awaited: dict[Due, _Awaited] = {}
        self._into: Sequence[memoryview] = (self._header_view,)
        self._lacks = HEADER_BYTES  # bytes until `_into` is full
        self._begun = 0  # bytes received of a frame whose header is not whole
        self._guess: _Awaited | None = None  # what `_into` takes it for
        self._current: tuple[Header, int, Room] | None = None  # the frame whose header is

    @property
    def full(self) -> bool:
        """Whether to read no more before a frame is taken."""
        return len(self.inbox) >= self._room_for

    @property
    def later(self) -> int:
        """The number of the step whose frame is coming in; 0 if none is, as far as one knows."""
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

    def gives_up(self, step: int) -> bool:
        """Whether a later step has begun, as far as one knows, that does not build on this one."""
        for frame in self.inbox:
            if frame.step > step:
                return frame.base <= step
        header = self._current[0] if self._current else None
        return header is not None and header.step > step and header.base <= step

    def forget(self, step: int) -> None:
        """Drop frames of a step that is over, and of those before."""
        kept = [frame for frame in self.inbox if frame.step > step]
        self.dropped += len(self.inbox) - len(kept)
        self.inbox = deque(kept)

    def owe(self, owed: Owed, into: dict[str, Any], keys: tuple[tuple[int, str], ...]) -> None:
        """Put copies of a frame's tensors, by their index in it, under these keys once it comes."""
        self.owed[owed] = into, keys
        if len(self.owed) > _MOST_OWED:  # of steps that the cloud gave up
            self.owed.popitem(last=False)

    def expect(self, due: Due, step: int) -> None:
        """The next frame should be this one: its room receives along with its header.

        The number of its step is a guess, too, which makes nothing wrong. Raises WireError if the
        plan has no such frame.
        """
        if self._begun or self._current is not None:
            return
        guess = self._awaited.get(due)
        if guess is None:
            rank, room = self._layout.room(*due)
            if room.varying is not None:
                return  # how long it is only its header says
            guess = _Awaited(due, rank, room, self._header_view, self._checked)
            self._awaited[due] = guess
        if not self._checked:
            guess.envelope.seal_ahead(step, step if self._chained else 0)
        self._guess = guess
        self._into = guess.views
        self._lacks = guess.nbytes

    def read(self, wait: bool = False) -> bool:
        """Read what is there or, with `wait`, what comes within the stream's limit.

        False if that is nothing. Raises PeerLeft if the peer closed between two frames, PeerLost if
        it did within one or a checksum is wrong, WireError for what breaks the rules, PeerUnable
        with the reason that the peer gives.
        """
        meter, guess, count = self.meter, self._guess, None
        if not wait or meter.unread:
            count = self._stream.take(self._into)
            if count is None:
                meter.emptied()
        if wait and count is None:
            meter.waited()
            count = self._stream.fill(self._into, guess is None and meter.close)
        if count is None:
            return False
        now = time.perf_counter_ns()
        if count == 0:
            kind = PeerLeft if self.between else PeerLost
            raise kind("the other side closed the connection")
        self.unanswered_since = math.inf
        if guess is None or self._begun or count < guess.nbytes or not self._as_due(guess, now):
            self._in_pieces(count, now)
        return True

    def _as_due(self, due: _Awaited, now: int) -> bool:
        """Take a frame that came at once; False if it is another one, or was altered."""
        envelope = due.envelope
        step, base = envelope.ahead_step, envelope.ahead_base
        if self._header != envelope.ahead:
            step, base = step_of(self._header), base_of(self._header)
            if self._header != envelope.seal(step, due.payload, base):
                return False
        self._check_turn(step, due.rank, envelope.place)
        header = Header(TENSORS, *envelope.place, step, due.room.nbytes, base)
        self._keep(header, due.room, now, self.meter.at_once(now))
        return True

    def _in_pieces(self, count: int, now: int) -> None:
        """Bytes of a frame came, or not of the one that was due."""
        self.meter.took(count, now)
        if count < self._lacks:
            self.meter.emptied()
        self._arrived(count)

    def _arrived(self, count: int) -> None:
        """So many more bytes are where they were to go."""
        self._lacks -= count
        self._into = advanced(self._into, count)
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
        if guess and room is guess.room:
            return
        astray = b"".join(guess.room.views)[:ahead] if guess else b""
        self._into, self._lacks = room.views_of(header.nbytes), header.nbytes
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
        payload = room.payload(header.nbytes) if self._checked else ()
        if checksum(header, payload) != check:
            raise PeerLost("bytes were altered on the way: the checksum of a frame is wrong")
        room.check(header.nbytes)
        if header.kind == ERROR:
            text = bytes(room.tensors[0]).decode(errors="replace")
            raise PeerUnable(f"the other side failed: {one_line(text)}")
        self._keep(header, room, now, burst)

    def _keep(self, header: Header, room: Room, now: int, burst: Burst) -> None:
        """A frame is whole, and right."""
        kind, step, base = header.kind, header.step, header.base
        if step > self.newest:  # whoever sent it has given the steps up that it does not build on
            if self.inbox:
                kept = [frame for frame in self.inbox if frame.step < base]
                self.dropped += len(self.inbox) - len(kept)
                self.inbox = deque(kept)
            self.newest = step
        self.answered = True
        times = tuple(room.times.tolist()) if room.times.size else ()
        nbytes = HEADER_BYTES + header.nbytes
        frame = Frame(kind, burst, times, now, nbytes, header[1:4], step, room, base)
        if kind != STATE:
            self._heard.append(frame)
        if self._remembers and not self._chained and self._pay(frame):
            pass
        elif kind != PROBE or not times:
            self.inbox.append(frame)
        self._current = self._guess = None
        self._into, self._lacks = (self._header_view,), HEADER_BYTES

    def _pay(self, frame: Frame) -> bool:
        """Put a frame of state where it is owed; whether it was one."""
        state = frame.kind == STATE
        owed = self.owed.pop((frame.kind, frame.base if state else frame.step, frame.place), None)
        if owed is not None:
            into, keys = owed
            tensors = frame.room.decoded()
            into.update({key: np.array(tensors[index]) for index, key in keys})
        return owed is not None or state  # one that nobody asked for is of a step given up

    def _room_of(self, header: Header) -> Room:
        if header.kind == ERROR:
            if header.nbytes > MAX_ERROR_BYTES:
                raise WireError(f"the peer sent an error of {header.nbytes} bytes")
            text = np.empty(MAX_ERROR_BYTES, np.uint8)[: header.nbytes]
            return Room(np.empty(0, ">u8"), (text,))
        room = self._layout.probe_room
        if header.kind in (STATE, FETCH):
            if self._chained is False and header.kind == FETCH:
                raise WireError("the cloud asked for state: the edge alone does")
            room = self._layout.state_room(header.position)
            room = room if header.kind == STATE else self._layout.no_room
        elif header.kind != PROBE:
            rank, room = self._layout.room(header.variant, header.position, header.trip)
            self._check_turn(header.step, rank, header[1:4])
        if not room.least_bytes <= header.nbytes <= room.nbytes:
            least = "" if room.varying is None else f"{room.least_bytes} to "
            raise WireError(
                f"the peer sent {header.nbytes} bytes for transfer {header.position}, "
                f"which has {least}{room.nbytes}"
            )
        return room

    def _check_turn(self, step: int, rank: int, place: tuple[int, int, int]) -> None:
        if (step, rank) <= self._last:
            raise WireError(f"the peer sent transfer {place[1]} twice or out of turn")
        self._last = (step, rank)
