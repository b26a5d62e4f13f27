"""Bursts: what the arrival of one frame says of the bandwidth.

The receiver notes when bytes come in. The rate of the bottleneck is the bytes that came after the
first arrival, over the time from the first arrival to the last. It contains neither the round trip
nor the sender's earlier compute, as bytes over round trips would (packet-train dispersion: Jain and
Dovrolis 2002). Left out of both bytes and time are

- bytes that came while nobody waited for them: their time is that of reading, not of arrival;
- the waits of a sender whose window is smaller than the frame (RFC 5681: on a new connection, after
  idling, and while the window grows): gaps of about a round trip. Other gaps are the link's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

_TRIPS = 0.6, 1.5  # round trips that a window waits: less what it takes to send, more if late
_CLOSE_NS = 1_000_000  # a round trip below which no window matters
_MOST_ARRIVALS = 512


@dataclass(slots=True)
class Burst:
    """How a frame came in.

    Attributes:
        first_ns: the receiver's clock at the first arrival.
        last_ns: the receiver's clock at the last arrival.
        train_bytes: bytes that came after the first arrival, less those left out.
        train_ns: how long they took; both are 0 if the frame came all at once.
    """

    first_ns: int
    last_ns: int
    train_bytes: int
    train_ns: int


def train_of(bursts: Iterable[Burst]) -> tuple[int, int]:
    """Bytes and nanoseconds of all their trains; both 0 if there is none."""
    nbytes = spent_ns = 0
    for burst in bursts:
        nbytes += burst.train_bytes
        spent_ns += burst.train_ns
    return nbytes, spent_ns


class BurstMeter:
    """Notes the arrivals of one frame after the other on a connection.

    `now` is the receiver's clock in nanoseconds everywhere here.

    Attributes:
        unread: whether more of a frame that has begun may be there to be read.
        close: whether the other end is so near that the first and the last arrival say it all.
    """

    def __init__(self) -> None:
        self.unread = False
        self.close = True
        self._ended_ns = 0
        self._waited = False
        self._arrivals: list[tuple[int, int, bool]] = []  # clock, bytes, whether waited for

    def took(self, nbytes: int, now: int) -> None:
        """So many bytes were read."""
        if self.unread:
            _, before, waited = self._arrivals[-1]
            self._arrivals[-1] = now, before + nbytes, waited
        else:
            self._arrivals.append((now, nbytes, self._waited))
            self.unread = True
            self._waited = False
            if len(self._arrivals) > _MOST_ARRIVALS:
                self._arrivals = [*_paired(self._arrivals[:-1]), self._arrivals[-1]]

    @property
    def several(self) -> bool:
        """Whether the frame came in several arrivals so far."""
        return len(self._arrivals) > 1

    def emptied(self) -> None:
        """There was nothing to read: what comes next is another arrival."""
        self.unread = False

    def waited(self) -> None:
        """The receiver has waited for bytes since the last ones, and did nothing else."""
        self._waited = True

    def at_once(self, now: int) -> Burst:
        """One read took a whole frame, and nothing else, at a time in nanoseconds."""
        self.unread = self._waited = False
        self._ended_ns = now
        return Burst(now, now, 0, 0)

    def finish(self, rtt_ns: int | None = None) -> Burst:
        """The frame is whole. Where one read took several frames, the first has its bytes.

        `rtt_ns` is the least round trip of the connection, in nanoseconds; 0 if nobody knows, None
        if nobody asked: a frame that came at once needs none.
        """
        arrivals, self._arrivals, self.unread = self._arrivals, [], False
        if rtt_ns is not None:
            self.close = rtt_ns < _CLOSE_NS
        if not arrivals:
            return Burst(self._ended_ns, self._ended_ns, 0, 0)
        first, last = arrivals[0][0], arrivals[-1][0]
        self._ended_ns = last
        if len(arrivals) == 1:
            return Burst(first, last, 0, 0)
        steps = [
            (after - before, nbytes)
            for (before, _, _), (after, nbytes, waited) in pairwise(arrivals)
            if waited
        ]
        if rtt_ns is not None and rtt_ns >= _CLOSE_NS:
            least, most = (trips * rtt_ns for trips in _TRIPS)
            steps = [step for step in steps if not least < step[0] < most]
        return Burst(first, last, sum(step[1] for step in steps), sum(step[0] for step in steps))


def _paired(arrivals: list[tuple[int, int, bool]]) -> list[tuple[int, int, bool]]:
    """Half as many arrivals: each two as one at the later one's time; the first stays."""
    rest = arrivals[1:]
    joined = [
        (late[0], early[1] + late[1], early[2] and late[2])
        for early, late in zip(rest[::2], rest[1::2], strict=False)
    ]
    return [arrivals[0], *joined, *([rest[-1]] if len(rest) % 2 else [])]
