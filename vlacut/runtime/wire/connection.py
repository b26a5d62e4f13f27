"""A connection: frames in both directions over a stream, and when to give up on them."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Mapping, Sequence

import numpy as np

from vlacut.errors import DeadlineMissed, PeerLost, WireError
from vlacut.hardware import Side
from vlacut.runtime.wire.frame import Frame, Heard
from vlacut.runtime.wire.layout import Layout
from vlacut.runtime.wire.outbox import Mover, Outbox, View
from vlacut.runtime.wire.protocol.envelope import Envelope, sealed
from vlacut.runtime.wire.protocol.header import ERROR, HEADER_BYTES, Header
from vlacut.runtime.wire.protocol.payloads import MAX_ERROR_BYTES, flat_bytes
from vlacut.runtime.wire.receiver import Receiver
from vlacut.runtime.wire.route import Due
from vlacut.runtime.wire.stream import ENDED, IDLE_S, IN, OUT, TlsStream, stream_of


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
        receiver: of what comes in.
        outbox: what is still to be sent.
        encoded: see `Layout.encoded`.
    """

    def __init__(
        self, sock: socket.socket, layout: Layout, timeout: float, *, checked: bool = True
    ) -> None:
        self.until = math.inf
        self.encoded = layout.encoded
        self._idle_s = min(IDLE_S, timeout)
        self._stream = stream_of(sock, self._idle_s)
        self._tls = isinstance(self._stream, TlsStream)
        self.receiver = Receiver(self._stream, layout, checked)
        self.outbox = Outbox(self._stream)
        self._layout = layout
        self._timeout = timeout
        self._checked = checked
        self._closed = False
        # A step of the edge mostly builds on the one before.
        self._chained = layout.remembers and layout.receiver is Side.EDGE

    def close(self) -> None:
        """End it, also for a thread that waits for it; calling it again does nothing."""
        self._closed = True
        self._stream.close()

    @property
    def silent_s(self) -> float:
        """Seconds for which something sent has gone without any byte in return."""
        return max(0.0, time.monotonic() - self.receiver.unanswered_since)

    def send(self, header: Header, arrays: Sequence[np.ndarray]) -> None:
        """As `post`, of a frame whose header nobody has packed before; raises as that does."""
        kind, variant, position, trip, step, nbytes, base = header
        self.post(Envelope(kind, variant, position, trip, nbytes), step, arrays, b"", base)

    def post(
        self,
        envelope: Envelope,
        step: int,
        arrays: Sequence[np.ndarray],
        times: bytes = b"",
        base: int = 0,
    ) -> None:
        """Begin to send a frame, behind those before it.

        Args:
            envelope: its header, but for the step and the checksum.
            step: its number.
            arrays: the payload, in any shape; they must stay as they are until `flush`.
            times: of the cloud, packed; they come before the arrays.
            base: the version of state that the step builds on.

        Raises PeerLost if the connection ended.
        """
        header = envelope.seal(step, (times, *arrays) if self._checked else (), base) + times
        views: list[View] = [header, *map(_packed, arrays)]
        sent = 0
        if not (self._tls or self.outbox.nbytes):
            sent = self._stream.put(views)
        if sent < HEADER_BYTES + envelope.nbytes:
            self.outbox.add([header, *(flat_bytes(array).data for array in arrays)], sent)
            self.outbox.push()
        if self.receiver.unanswered_since == math.inf:
            self.receiver.unanswered_since = time.monotonic()
        if not self._checked:
            envelope.seal_ahead(step + 1, step + 1 if self._chained else 0)

    def leave_written(self) -> None:
        """What a step that was given up still has to send stays as it is."""
        self._layout.leave_written()

    def flush(self) -> None:
        """Send what is left. Raises PeerLost if the peer does not take it, DeadlineMissed once
        `until` has passed.
        """
        while self.outbox.nbytes:
            if not self.outbox.push():
                self._wait(IN)

    @property
    def torn(self) -> bool:
        """Whether a frame was not sent as a whole: once its step is over, the connection is of no
        more use.
        """
        return self.outbox.nbytes > 0

    def moving(self, step: int) -> Mover:
        """While entered, bytes move in both directions, those that come up to this step's.

        A later step's would overwrite what an engine still reads.
        """
        return Mover(lambda stop: self._move(stop, step))

    def _move(self, stop: int, step: int) -> None:
        while True:
            while self.outbox.push() or (self._takes(step) and self.receiver.read()):
                pass
            events = OUT if self.outbox.nbytes else 0
            events |= IN if self._takes(step) else 0
            ready = self._stream.wait_or(stop, events, self._timeout)
            if ready & ENDED:  # or stopped; if it ended, whoever reads next says so
                return
            self.receiver.meter.waited()

    def send_error(self, text: str) -> None:
        """Tell the peer why the connection ends, if it still listens."""
        if self.torn:
            return
        data = text.encode()[:MAX_ERROR_BYTES]
        header = Header(ERROR, 0, 0, 0, 0, len(data))
        try:
            self._stream.put([sealed(header, [data] if self._checked else ()) + data])
        except PeerLost:
            return  # it does not: the caller is about to close the connection anyway

    def receive(self, step: int = 0, due: Due | None = None) -> Frame:
        """The next frame of this step or a later one, in order; those of earlier ones are dropped.

        `step` is its number; `due` is which frame that should be: its room receives along with its
        header. On the edge an answer to a probe is no frame: see `take_heard`.

        Raises PeerLost if the connection ended or nothing came for `timeout` seconds, WireError for
        what breaks the rules, PeerUnable with the reason the peer gives, DeadlineMissed once
        `until` has passed.
        """
        receiver = self.receiver
        while True:
            while not receiver.inbox:
                if due is not None:
                    receiver.expect(due, step)
                self._progress()
            frame = receiver.inbox.popleft()
            if frame.step >= step:
                return frame
            receiver.dropped += 1

    def peek(self, due: Due | None = None) -> Frame | None:
        """The next frame, which stays the next; None if none begins within `IDLE_S` seconds.

        `due` is as for `receive`. Raises as that does, and PeerLeft if the peer closed between two
        frames.
        """
        inbox = self.receiver.inbox
        if not inbox:
            if due is not None:
                self.receiver.expect(due, self.receiver.newest + 1)
            if not self._idle_read():
                return None
            if not inbox:
                self.put_back(self.receive(due=due))
        return inbox[0]

    def begun(self) -> bool:
        """Whether anything of a frame that nobody has taken has come. Raises as `listen`."""
        self.listen()
        return bool(self.receiver.inbox) or not self.receiver.between

    def put_back(self, frame: Frame) -> None:
        """Make a received frame the next one again."""
        self.receiver.inbox.appendleft(frame)

    def superseded(self, step: int) -> bool:
        """Whether a later step has begun that does not build on this one; if so, what has come of
        this one and nobody has taken is dropped, lest it be taken for the beginning of the next.

        No payload of a later step is read: it would overwrite what this one may still need. Raises
        as `listen`.
        """
        receiver = self.receiver
        while (
            max(receiver.newest, receiver.later) <= step
            and not receiver.full
            and (self._tls or self._stream.readable)
            and self.receiver.read()
        ):
            pass
        given_up = receiver.gives_up(step)
        if given_up:
            receiver.forget(step)
        return given_up

    def wait_for(self, key: str, tensors: Mapping[str, object]) -> None:
        """Return once a tensor of state is there that is owed.

        Args:
            key: of the state.
            tensors: where it comes to be, by key.

        Raises WireError if nobody owes it, and as `receive`.
        """
        while key not in tensors:
            if not self.receiver.owed:
                raise WireError(f"a step builds on state {key}, which is not here")
            self._progress()

    def listen(self) -> None:
        """Take in what has arrived, without waiting. Raises PeerLost, WireError or PeerUnable."""
        while not self.receiver.full and self.receiver.read():
            pass

    def take_heard(self) -> list[Heard]:
        """What frames said of the network since the last call, also frames that were dropped."""
        return self.receiver.take_heard()

    def check_deadline(self) -> None:
        """Raises DeadlineMissed once `until` has passed."""
        if self.until < math.inf and time.monotonic() >= self.until:
            raise DeadlineMissed("the deadline passed before the step was complete")

    def _takes(self, step: int) -> bool:
        """Whether there is room, and what comes is not of a later step."""
        return not self.receiver.full and self.receiver.later <= step

    def _progress(self) -> None:
        """Send or read something, once that can be done."""
        if self._tls or self.outbox.nbytes:
            if not self.outbox.push() and not self.receiver.read():
                self._wait(IN)
        elif self.until < math.inf:
            if not (self.receiver.meter.unread and self.receiver.read()):
                self._wait(IN)
                self.receiver.read()
        else:
            end = math.inf
            while not self.receiver.read(wait=True):
                now = time.monotonic()
                end = min(end, now + self._timeout - self._idle_s)
                if now >= end:
                    self._give_up()

    def _idle_read(self) -> bool:
        """Read what comes within the stream's limit; False if that is nothing."""
        if self._tls:
            return bool(self._stream.wait(IN, self._idle_s)) or self.receiver.read()
        return self.receiver.read(wait=True)

    def _wait(self, events: int) -> None:
        if self._closed:
            raise PeerLost("the connection was closed")
        events = 0 if self.receiver.full else events
        events |= OUT if self.outbox.nbytes else 0
        left = self.until - time.monotonic()
        ready = self._stream.wait(events, max(0.0, min(left, self._timeout)))
        if not ready:
            self._give_up()
        self.receiver.meter.waited()
        if ready & IN and events & OUT:
            self.receiver.read()

    def _give_up(self) -> None:
        self.check_deadline()
        raise PeerLost(f"no answer for {self._timeout:g} s; is the other side still running?")


def _packed(array: np.ndarray) -> memoryview:
    """The bytes of an array, without asking numpy for a view of them where it is packed."""
    return array.data if array.flags.c_contiguous else flat_bytes(array).data
