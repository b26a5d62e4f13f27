"""Shape: what an emulated link does to bytes, each way.

Bytes leave one after the other at the rate of the moment, and arrive a delay later. What is
emulated beyond that is what TCP would make of it, seen by who reads the stream:

- jitter: a burst arrives later by up to so much; nothing overtakes anything;
- loss: a segment that is lost holds back all that follows it until it was sent again, a round trip
  later (fast retransmit: RFC 5681, 3.2). That TCP also slows down then is not emulated, nor is its
  slow start: the proxy ends TCP on both sides. `tools/tun_link.py` emulates packets instead;
- outage: the rate is 0 for a while.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlacut.errors import HardwareError
from vlacut.hardware import Link
from vlacut.hardware.trace import Trace

_EDGES = 1e-9  # shorter pieces of a trace are rounding


@dataclass(frozen=True)
class DirectionShape:
    """One direction of an emulated link.

    Attributes:
        trace: bytes per second of the stream over time, headers of the segments taken off; it
            starts again at its end.
        delay_s: seconds from the last byte sent to its arrival.
        jitter_s: a burst's extra delay is between 0 and so many seconds, each as likely.
        loss: share of the segments that are lost, at least 0 and below 1.
        again_s: a segment lost arrives so many seconds later.

    Raises HardwareError for a time below 0, or another loss.
    """

    trace: Trace
    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    again_s: float = 0.0

    def __post_init__(self) -> None:
        if min(self.delay_s, self.jitter_s, self.again_s) < 0 or not 0 <= self.loss < 1:
            raise HardwareError(
                f"delay {self.delay_s:g} s, jitter {self.jitter_s:g} s, loss {self.loss:g}: times "
                f"must not be negative, and loss at least 0 and below 1"
            )


@dataclass(frozen=True)
class Shape:
    """Both directions.

    Attributes:
        up: from the robot.
        down: to the robot.
        segment_bytes: bytes that are lost together.
        seed: makes jitter and loss the same each time.
    """

    up: DirectionShape
    down: DirectionShape
    segment_bytes: int = 1448
    seed: int = 0


def shape_of(
    link: Link,
    trace: Trace | None = None,
    *,
    jitter_s: float = 0.0,
    loss: float = 0.0,
    outages: Sequence[tuple[float, float]] = (),
    seed: int = 0,
) -> Shape:
    """The shape of a link.

    Args:
        link: its rates and round trip.
        trace: rates of the wire up that take the place of the link's; those down keep the link's
            ratio to them.
        jitter_s: seconds, see `DirectionShape`; both directions alike.
        loss: share of the segments; as jitter.
        outages: start and length in seconds, on the trace's clock.
        seed: of jitter and loss.

    Raises HardwareError for what no link can be.
    """
    ups = Trace((link.up,), (1.0,)) if trace is None else scaled(trace, link.framing.share)
    if outages:
        ups = interrupted(ups, outages)
    ways = (ups, scaled(ups, link.down / link.up))
    up, down = (DirectionShape(rates, link.rtt / 2, jitter_s, loss, link.rtt) for rates in ways)
    return Shape(up, down, link.framing.segment_bytes, seed)


def scaled(trace: Trace, factor: float) -> Trace:
    """The trace with every rate times a factor."""
    return Trace(tuple(rate * factor for rate in trace.rates), trace.seconds)


def interrupted(trace: Trace, outages: Sequence[tuple[float, float]]) -> Trace:
    """The trace with no rate in these spans of (start, length), in seconds.

    A trace of one rate is as long as it takes to hold them all. Raises HardwareError for an outage
    that is not within the trace.
    """
    if len(trace.rates) == 1:
        last = max(start + length for start, length in outages)
        trace = Trace(trace.rates, (max(last, trace.seconds[0]),))
    total = sum(trace.seconds)
    for start, length in outages:
        if start < 0 or length <= 0 or start + length > total + _EDGES:
            raise HardwareError(
                f"an outage of {length:g} s at {start:g} s is not within the trace's {total:g} s"
            )
    ends = np.concatenate([[0.0], np.cumsum(trace.seconds)])
    holes = [edge for start, length in outages for edge in (start, start + length)]
    edges = np.unique(np.concatenate([ends, holes]))
    edges = edges[np.concatenate([[True], np.diff(edges) > _EDGES])]
    middles = (edges[1:] + edges[:-1]) / 2
    rates = np.array(trace.rates)[np.searchsorted(ends, middles) - 1]
    for start, length in outages:
        rates[(middles > start) & (middles < start + length)] = 0.0
    return Trace(tuple(rates.tolist()), tuple(np.diff(edges).tolist()))
