"""Headers of frames: what a frame is, in 40 bytes."""

from __future__ import annotations

import struct
from typing import NamedTuple

from vlacut.errors import WireError

_KINDS = TENSORS, ERROR, PROBE, STATE, FETCH = 1, 2, 3, 4, 5
_HEADER = struct.Struct("!HBBHHHHIQQQ")
_FRAME_MAGIC = 0x5643
CHECK_AT, CHECK_BYTES, _STEP, _BASE = 12, 4, slice(16, 24), slice(24, 32)
HEADER_BYTES = _HEADER.size


class Header(NamedTuple):
    """What a frame is: see `vlacut.runtime.wire.protocol`.

    Attributes:
        kind: TENSORS, ERROR, PROBE, STATE or FETCH.
        variant: index of the plan's.
        position: of the transfer in the flattened schedule; in a frame of state, of that in the
            plan.
        trip: of the loop around it.
        step: its number.
        nbytes: bytes of the payload.
        base: the version of state that the step builds on, or that the frame holds.
    """

    kind: int
    variant: int
    position: int
    trip: int
    step: int
    nbytes: int
    base: int = 0

    def pack(self, check: int) -> bytes:
        """The 40 bytes on the wire, with this checksum."""
        kind, variant, position, trip, step, nbytes, base = self
        place = variant, position, trip
        return _HEADER.pack(_FRAME_MAGIC, kind, 0, *place, 0, check, step, base, nbytes)


def unpack_header(data: bytes | bytearray | memoryview) -> tuple[Header, int]:
    """The header in 40 bytes, and the checksum it claims. Raises WireError if it is none."""
    magic, kind, zero, variant, position, trip, zeros, check, *rest = _HEADER.unpack(data)
    if magic != _FRAME_MAGIC or kind not in _KINDS:
        raise WireError(f"the peer sent no frame (magic {magic:#06x}, kind {kind})")
    if zero or zeros:
        raise WireError("the peer sent a header with bits set that must be zero")
    step, base, nbytes = rest
    return Header(kind, variant, position, trip, step, nbytes, base), check


def step_of(packed: bytes | bytearray) -> int:
    """The step that the 40 bytes of a header name."""
    return int.from_bytes(packed[_STEP], "big")


def base_of(packed: bytes | bytearray) -> int:
    """The version of state that the 40 bytes of a header name."""
    return int.from_bytes(packed[_BASE], "big")
