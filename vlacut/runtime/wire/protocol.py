"""The wire: how the two sides of one bundle talk. This page is the specification.

One TCP connection, without Nagle's delay; off loopback in TLS 1.3, both sides with certificates
(`vlacut.runtime.wire.security`). Numbers are unsigned and big-endian; tensors are raw, packed,
little-endian, as numpy lays them out. No number from the peer ever sizes an allocation.

**Handshake.** The edge sends a greeting of 80 bytes, the cloud answers with one:

    0   magic `VLACUT`, two zero bytes
    8   protocol version (u16)
    10  status (u16): 0; from the cloud, otherwise the reason of a refusal, see `Status`
    12  flags (u32): bit 0, the checksums of frames cover their tensors; bit 1, the edge was sent
        here or comes back here, and is sent on only if there is no room; other bits are zero. The
        edge chooses, the cloud repeats them
    16  SHA-256 digest of the bundle's manifest
    48  session token, 16 random bytes the edge chose once; the cloud repeats them
    64  the edge's clock when it sent this; from the cloud: when it had received the edge's (u64)
    72  the edge's deadline for a step in nanoseconds, 0 if none; from the cloud: when it sent this

After another status than 0 the cloud says no more. The edge of a bundle that is being loaded dials
again: no handshake lasts as long as that may. Only *moved* is followed by a place: 256 bytes, the
`HOST:PORT` where the bundle is served in ASCII, then zeros. The edge dials that one, with the same
keys; where it runs into a circle, all are full.

The first 12 bytes keep their meaning in every version, so that versions can refuse each other. Two
sides that hold different bundles never exchange a tensor. A token seen before is the same robot
again: the cloud ends that robot's older session. Where the plan has state, 0 from the cloud is
followed by its memory of the robot: two versions of its state (u64; 0 if there is none), each with
a bit for every state that it holds of it, that of the plan's first in the lowest of the first byte.
Clocks are monotonic, in nanoseconds, of unknown
epoch; the four times of a handshake estimate their offset (`vlacut.runtime.wire.clock`).

**Frames.** After the handshake either side sends frames: a header of 40 bytes and a payload.

    0   magic 0x5643 (u16)
    2   kind (u8): 1 tensors, 2 error, 3 probe, 4 state, 5 fetch
    3   zero
    4   variant (u16), position (u16), trip (u16): which Transfer of which schedule; position counts
        the flattened schedule, trip the turns of the loop around it
    10  two zero bytes
    12  checksum (u32)
    16  step (u64)
    24  base (u64): the version of state that the step builds on; from the cloud 0, but in state
    32  length of the payload (u64)

Variant, position and trip fix the payload's length for the receiver, or where pictures are coded
the least and the most that it may be, and a frame that claims another is refused. Which variant
runs is the sender's to say, frame by frame. Steps only grow: a frame of a later step abandons the
earlier one on the cloud, and the edge drops frames of earlier steps. A step that failed starts
again from its observation, on a new connection; nothing of the old connection outlives it.

**State.** What step n leaves to the next has the version n + 1; the initial state has version 0. A
step that builds on version n + 1 needs step n: the cloud ends it first. A step that builds on an
earlier one has given up those since, and what they left is forgotten: no more is held than the base
of a step and what it leaves. A transfer that is `later` is sent as any other, and nobody waits for
it before the next step. A state frame is one tensor of state of the version `base`: position is its
index in the plan, variant and trip are 0. The edge sends one, before the frames of a step, where
the cloud lacks it; the cloud, where the edge asks for it: a fetch frame, which has no payload.
A step that reads state which the cloud does not hold ends the connection.

**Tensors.** From the edge: the tensors of the Transfer, in its order, without gaps; each as it is,
or as the codec that the Transfer names for it writes it (`vlacut.runtime.wire.codecs`). So the
length of a coded tensor too is fixed by the plan, but for coded pictures
(`vlacut.runtime.wire.pictures`). Of these come first, after the times where there are any, the
lengths, a u32 each; then the tensors whose length is fixed; then the coded pictures in their order,
without gaps. Each has as many bytes as the tensor has without a codec at most, and all together
what the payload's length leaves: the receiver has room for the most, and refuses other lengths. A
Transfer of no tensors tells the cloud that a step has begun, where it begins with what depends on
nothing of the edge's.

From the cloud, before them the *times*, each a
u64: how many of the edge's frames of this step it had taken; its clock when the last of these was
complete; its clock when it sent this frame; its clock when the first bytes of the last of these
came; of the edge's frames since those it told of before, the bytes that came after their first
ones, and the nanoseconds in which they did, both 0 where that cannot be told
(`vlacut.runtime.wire.burst`); the nanoseconds it has spent in codecs so far in this step; and for
every cloud part of the variant the nanoseconds spent in it so far in this step and its clock when
the last run of it began.

**Probes.** Between two steps the edge may send a probe, whose payload is 32768 zero bytes, to learn
the bandwidth where no tensor crosses. The cloud answers it with a probe of the same step that holds
the first seven times. Variant, position and trip of both are 0. Where the plan has state, the base
of a probe is its step: it gives nothing up.

**Errors.** An engine that fails on one side is said to the other: the payload of an error frame is
one line of UTF-8, at most 512 bytes. It ends the connection. Frames that break these rules end it
without a word, since nothing says that the peer would read one.

**Checksum.** CRC-32 (zlib's) over the header with a zero checksum, then, where the handshake says
so, over each tensor: of its blocks of 4096 bytes, read as rows of 512 little-endian u64, the sums
of the rows, then the sums of the columns, both modulo 2**64 and little-endian; then the bytes after
the last whole block. The sums cost a quarter of a CRC over all bytes (tools/bench_wire.py), and
notice bytes that changed, moved or came twice. They guard against faults, not against attackers:
that is what TLS is for. The edge asks for them off loopback without TLS, where TCP's own checksum
of 16 bits is all that guards the tensors. TLS authenticates every record (RFC 8446, section 5.2),
and on loopback bytes are copied from memory to memory.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, unique
from typing import NamedTuple, Union

import numpy as np

from vlacut.errors import WireError

VERSION = 6
MAX_ERROR_BYTES = 512
_KINDS = TENSORS, ERROR, PROBE, STATE, FETCH = 1, 2, 3, 4, 5
PROBE_BYTES = 32768
LENGTH_BYTES = 4  # of a coded tensor whose length varies
FIXED_TIMES = 7  # what the cloud says first in every frame: see the docstring
DIGEST_BYTES, TOKEN_BYTES = 32, 16
_MAGIC = b"VLACUT\0\0"
_GREETING = struct.Struct("!8sHHI32s16sQQ")
_GREETING_START = struct.Struct("!8sHH")
_HEADER = struct.Struct("!HBBHHHHIQQQ")
_FRAME_MAGIC = 0x5643
_REST = struct.Struct("!QQQ")  # of a header: what comes after the checksum
_CHECK_AT, _CHECK_BYTES, _STEP, _BASE = 12, 4, slice(16, 24), slice(24, 32)
_LAST_STEP = 2**64 - 1
_ROW_WORDS = 512
_BLOCK_BYTES = 8 * _ROW_WORDS
CHECKED, STAY = 1, 2  # flags of the greeting
PLACE_BYTES = 256
GREETING_BYTES, GREETING_START_BYTES = _GREETING.size, _GREETING_START.size
HEADER_BYTES = _HEADER.size
Payload = Union[np.ndarray, bytes]


@unique
class Status(IntEnum):
    """What the cloud says to a greeting."""

    OK = 0
    OTHER_BUNDLE = 1
    OTHER_VERSION = 2
    FULL = 3  # or stopping
    LOADING = 4  # the bundle: come again
    MOVED = 5  # another serves it: a place follows


@dataclass(frozen=True)
class Greeting:
    """What one side says first: see the module's docstring.

    Attributes:
        status: 0, or from the cloud the reason of a refusal, see `Status`.
        digest: of the bundle's manifest, 32 bytes.
        token: of the session, 16 bytes.
        first_ns: the sender's clock: of the edge when it sent this, of the cloud when it had
            received the edge's.
        second_ns: of the edge, the nanoseconds within which a step returns, 0 for no limit; of the
            cloud, its clock when it sent this.
        flags: CHECKED for checksums that cover tensors, STAY for an edge that was sent here.
    """

    status: int
    digest: bytes
    token: bytes
    first_ns: int
    second_ns: int
    flags: int = 0

    def pack(self) -> bytes:
        """The 80 bytes on the wire."""
        fields = (self.flags, self.digest, self.token, self.first_ns, self.second_ns)
        return _GREETING.pack(_MAGIC, VERSION, self.status, *fields)


def unpack_version(data: bytes) -> int:
    """The version in the first 12 bytes of a greeting. Raises WireError if it is none of vlacut."""
    magic, version, _ = _GREETING_START.unpack(data)
    if magic != _MAGIC:
        raise WireError("the other side is no vlacut: check host, port and --tls")
    return int(version)


def unpack_greeting(data: bytes) -> Greeting:
    """The greeting in 80 bytes; see `unpack_version` for other versions.

    Raises WireError if bits are set that must be zero.
    """
    status, flags, digest, token, first_ns, second_ns = _GREETING.unpack(data)[2:]
    if flags & ~(CHECKED | STAY):
        raise WireError("the peer sent a greeting with bits set that must be zero")
    return Greeting(status, digest, token, first_ns, second_ns, flags)


class Header(NamedTuple):
    """What a frame is: see the module's docstring.

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
        self._start = packed[:_CHECK_AT]
        self._check = zlib.crc32(packed[: _CHECK_AT + _CHECK_BYTES])
        self.ahead_step, self.ahead_base, self.ahead = -1, 0, b""

    def sized(self, nbytes: int) -> Envelope:
        """The same for frames with a payload of so many bytes."""
        return Envelope(self.kind, *self.place, nbytes)

    def seal(self, step: int, payload: Sequence[Payload] = (), base: int = 0) -> bytes:
        """The 40 bytes of a header on the wire, with the checksum of its frame.

        No payload where its tensors are not covered: see the module's docstring.
        """
        if step == self.ahead_step and base == self.ahead_base and not payload:
            return self.ahead
        rest = _REST.pack(step, base, self.nbytes)
        check = zlib.crc32(rest, self._check)
        for data in payload:
            check = _tensor_checksum(flat_bytes(data), check)
        return self._start + check.to_bytes(_CHECK_BYTES, "big") + rest

    def seal_ahead(self, step: int, base: int = 0) -> None:
        """Have the header of a step ready, by its number and its base, of a frame whose tensors are
        not covered.
        """
        if step <= _LAST_STEP:
            self.ahead = self.seal(step, (), base)
            self.ahead_step, self.ahead_base = step, base


def checksum(header: Header, payload: Iterable[Payload]) -> int:
    """The checksum of a frame, 32 bits; no payload where its tensors are not covered: see the
    module's docstring.
    """
    check = zlib.crc32(header.pack(0))
    for data in payload:
        check = _tensor_checksum(flat_bytes(data), check)
    return check


def sealed(header: Header, payload: Sequence[Payload] = ()) -> bytes:
    """The 40 bytes of a header on the wire: see `Envelope.seal`."""
    kind, variant, position, trip, step, nbytes, base = header
    return Envelope(kind, variant, position, trip, nbytes).seal(step, payload, base)


def step_of(packed: bytes | bytearray) -> int:
    """The step that the 40 bytes of a header name."""
    return int.from_bytes(packed[_STEP], "big")


def base_of(packed: bytes | bytearray) -> int:
    """The version of state that the 40 bytes of a header name."""
    return int.from_bytes(packed[_BASE], "big")


def flat_bytes(data: Payload) -> np.ndarray:
    """The bytes of an array, or these, as uint8 [bytes]; a view where they are packed."""
    if isinstance(data, bytes):
        return np.frombuffer(data, np.uint8)
    flat: np.ndarray = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    return flat


def _tensor_checksum(data: np.ndarray, check: int) -> int:
    whole = data.size - data.size % _BLOCK_BYTES
    if whole:
        rows = data[:whole].view("<u8").reshape(-1, _ROW_WORDS)
        check = zlib.crc32(np.add.reduce(rows, axis=1).data, check)
        check = zlib.crc32(np.add.reduce(rows, axis=0).data, check)
    return zlib.crc32(data[whole:].data, check)
