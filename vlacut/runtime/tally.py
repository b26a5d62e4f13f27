"""The tally of a step: what it took on one side."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from vlacut.runtime.clock import Exchange


class Span(NamedTuple):
    """Something that took time, in nanoseconds on the clock of the side it was on."""

    name: str
    start_ns: int
    end_ns: int


@dataclass
class Tally:
    """What one step took on this side.

    Attributes:
        part_ns: nanoseconds by part; the edge adds what the cloud reports of its own.
        device_ns: of this side's parts, what their device took by its own clock, where it has one.
        spans: runs of this side's parts, on its clock.
        reported: runs of the cloud's parts, on the cloud's clock; runs between two frames are one.
        codec_ns: nanoseconds that this side spent in codecs.
        cloud_codec_ns: the same of the cloud, as it reports it to the edge.
        sent_ns: when each frame began to be sent.
        sent_bytes: of each of these frames on the connection.
        exchanges: a frame of the cloud each, and the last one it had taken of the edge's; both when
            they were whole.
        pings: the same, both when their first bytes came.
        passed: bytes on the connection of both frames of each exchange.
        sent, received: bytes of tensors.
        frames: sent and received.
        late: frames of earlier steps that were dropped.
    """

    part_ns: dict[str, int] = field(default_factory=dict)
    device_ns: dict[str, int] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    reported: list[Span] = field(default_factory=list)
    codec_ns: int = 0
    cloud_codec_ns: int = 0
    sent_ns: list[int] = field(default_factory=list)
    sent_bytes: list[int] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    pings: list[Exchange] = field(default_factory=list)
    passed: list[tuple[int, int]] = field(default_factory=list)
    sent: int = 0
    received: int = 0
    frames: int = 0
    late: int = 0
