"""The tally of a step: the notes that one side takes during it, worked out when asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from vlacut.runtime.wire.clock import Exchange
from vlacut.runtime.wire.frame import Heard
from vlacut.runtime.wire.protocol.payloads import FIXED_TIMES


class Span(NamedTuple):
    """Something that took time, in nanoseconds on the clock of the side it was on."""

    name: str
    start_ns: int
    end_ns: int


@dataclass(slots=True)
class Tally:
    """What one step took on this side.

    Attributes:
        ran: runs of this side's parts: name, start and end in nanoseconds, on its clock.
        coded: the same of codecs.
        device_ns: of this side's parts, what their device took by its own clock, where it has one.
        posted: when each frame began to be sent, and its bytes on the connection.
        answers: frames of the cloud.
        cloud_parts: names of the cloud's parts, in the order in which these report them.
        sent, received: bytes of tensors.
        taken: frames received.
        late: frames of earlier steps that were dropped.
        clock_ns: the cloud's clock less the edge's, once somebody has worked that out.
        clock_error_ns: by how much that may be off, see `vlacut.runtime.wire.clock`.
    """

    ran: list[tuple[str, int, int]] = field(default_factory=list)
    coded: list[tuple[str, int, int]] = field(default_factory=list)
    device_ns: dict[str, int] = field(default_factory=dict)
    posted: list[tuple[int, int]] = field(default_factory=list)
    answers: list[Heard] = field(default_factory=list)
    cloud_parts: tuple[str, ...] = ()
    sent: int = 0
    received: int = 0
    taken: int = 0
    late: int = 0
    clock_ns: int = 0
    clock_error_ns: int = 0

    @property
    def frames(self) -> int:
        """Sent and received."""
        return len(self.posted) + self.taken

    @property
    def part_ns(self) -> dict[str, int]:
        """Nanoseconds by part of this side."""
        return _summed(self.ran)

    @property
    def cloud_part_ns(self) -> dict[str, int]:
        """Nanoseconds by part of the cloud, as it reports them."""
        return _summed(self.reported)

    @property
    def codec_ns(self) -> int:
        """Nanoseconds that this side spent in codecs."""
        return sum(end_ns - start_ns for _, start_ns, end_ns in self.coded)

    @property
    def cloud_codec_ns(self) -> int:
        """The same of the cloud, as it reports it to the edge."""
        return self.answers[-1].times[FIXED_TIMES - 1] if self.answers else 0

    @property
    def spans(self) -> list[Span]:
        """What ran on this side, on its clock, in the order of ending."""
        return sorted((Span(*span) for span in (*self.ran, *self.coded)), key=lambda one: one[2])

    @property
    def reported(self) -> list[Span]:
        """Runs of the cloud's parts, on the cloud's clock; runs between two frames are one."""
        found, before = [], [0] * len(self.cloud_parts)
        for answer in self.answers:
            spent, began = answer.times[FIXED_TIMES::2], answer.times[FIXED_TIMES + 1 :: 2]
            for index, (total, start) in enumerate(zip(spent, began, strict=True)):
                if total > before[index]:
                    more, before[index] = total - before[index], total
                    found.append(Span(self.cloud_parts[index], start, start + more))
        return found

    @property
    def exchanges(self) -> list[Exchange]:
        """When both frames of each of `answered` were whole."""
        return [
            Exchange(posted[0], answer.times[1], answer.times[2], answer.arrived_ns)
            for posted, answer in self.answered
        ]

    @property
    def pings(self) -> list[tuple[int, int, int, int]]:
        """As `exchanges`, by when their first bytes came."""
        return [
            (posted[0], answer.times[3], answer.times[2], answer.burst.first_ns)
            for posted, answer in self.answered
        ]

    @property
    def answered(self) -> list[tuple[tuple[int, int], Heard]]:
        """Each answer to a frame, behind the last of `posted` that the cloud had taken by then."""
        posted = self.posted
        return [
            (posted[answer.times[0] - 1], answer)
            for answer in self.answers
            if 0 < answer.times[0] <= len(posted)
        ]


def _summed(spans: list[tuple[str, int, int]] | list[Span]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, start_ns, end_ns in spans:
        found[name] = found.get(name, 0) + end_ns - start_ns
    return found
