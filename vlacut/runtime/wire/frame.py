"""A frame that was received, and what it says of the network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlacut.runtime.wire.burst import Burst
from vlacut.runtime.wire.layout import Room
from vlacut.runtime.wire.protocol.header import HEADER_BYTES, Header


@dataclass(slots=True)
class Heard:
    """What a frame said of the network.

    Attributes:
        kind: of the frame.
        burst: how it came in.
        times: those that the cloud sends along, in the order of `protocol`; none from the edge.
        arrived_ns: this side's clock when it was complete, in nanoseconds.
        nbytes: on the connection: header and payload.
    """

    kind: int
    burst: Burst
    times: tuple[int, ...]
    arrived_ns: int
    nbytes: int


@dataclass(slots=True)
class Frame(Heard):
    """A frame, received.

    Attributes:
        place: which Transfer it is: variant, position and trip.
        step: its number.
        room: with the tensors; overwritten by the same transfer of the next step.
        base: the version of state that it names.
    """

    place: tuple[int, int, int]
    step: int
    room: Room
    base: int = 0

    @property
    def header(self) -> Header:
        """What it is."""
        return Header(self.kind, *self.place, self.step, self.nbytes - HEADER_BYTES, self.base)

    @property
    def tensors(self) -> tuple[np.ndarray, ...]:
        """What came over the wire: uint8 where a codec wrote it, else in its own shape."""
        return self.room.tensors
