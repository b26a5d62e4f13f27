"""Sealing: headers with the checksums of their frames."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence

from vlacut.runtime.wire.protocol.header import CHECK_AT, CHECK_BYTES, Header
from vlacut.runtime.wire.protocol.payloads import Payload, flat_bytes, tensor_checksum

_REST = struct.Struct("!QQQ")  # of a header: what comes after the checksum
_LAST_STEP = 2**64 - 1


class Envelope:
    """The headers of a transfer's frames: packed, but for the step and the checksum.

    The header of a step to come can be sealed ahead, while nobody waits: when the step comes, the
    code that seals has long left the processor's caches (tools/bench_overhead.py).

    Args:
        kind, variant, position, trip: of all of them.
        nbytes: of their payload.

    Attributes:
        kind: of all of them.
        place: variant, position and trip.
        ahead_step, ahead_base: of the header that is sealed ahead.
        ahead: this header; empty if there is none.
    """

    __slots__ = (
        *("_check", "_start", "ahead", "ahead_base", "ahead_step"),
        *("kind", "nbytes", "place"),
    )

    def __init__(self, kind: int, variant: int, position: int, trip: int, nbytes: int) -> None:
        packed = Header(kind, variant, position, trip, 0, nbytes).pack(0)
        self.kind, self.place = kind, (variant, position, trip)
        self.nbytes = nbytes
        self._start = packed[:CHECK_AT]
        self._check = zlib.crc32(packed[: CHECK_AT + CHECK_BYTES])
        self.ahead_step, self.ahead_base, self.ahead = -1, 0, b""

    def sized(self, nbytes: int) -> Envelope:
        """The same for frames with a payload of so many bytes."""
        return Envelope(self.kind, *self.place, nbytes)

    def seal(self, step: int, payload: Sequence[Payload] = (), base: int = 0) -> bytes:
        """The 40 bytes of a header on the wire, with the checksum of its frame.

        No payload where its tensors are not covered: see `vlacut.runtime.wire.protocol`.
        """
        if step == self.ahead_step and base == self.ahead_base and not payload:
            return self.ahead
        rest = _REST.pack(step, base, self.nbytes)
        check = zlib.crc32(rest, self._check)
        for data in payload:
            check = tensor_checksum(flat_bytes(data), check)
        return self._start + check.to_bytes(CHECK_BYTES, "big") + rest

    def seal_ahead(self, step: int, base: int = 0) -> None:
        """Have the header of a step ready, by its number and its base, of a frame whose tensors are
        not covered.
        """
        if step <= _LAST_STEP:
            self.ahead = self.seal(step, (), base)
            self.ahead_step, self.ahead_base = step, base


def checksum(header: Header, payload: Iterable[Payload]) -> int:
    """The checksum of a frame, 32 bits.

    No payload where its tensors are not covered: see `vlacut.runtime.wire.protocol`.
    """
    check = zlib.crc32(header.pack(0))
    for data in payload:
        check = tensor_checksum(flat_bytes(data), check)
    return check


def sealed(header: Header, payload: Sequence[Payload] = ()) -> bytes:
    """The 40 bytes of a header on the wire: see `Envelope.seal`."""
    kind, variant, position, trip, step, nbytes, base = header
    return Envelope(kind, variant, position, trip, nbytes).seal(step, payload, base)
