"""Greetings: what both sides say first, and the reasons of a refusal."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, unique

from vlacut.errors import WireError

VERSION = 6
DIGEST_BYTES, TOKEN_BYTES = 32, 16
_MAGIC = b"VLACUT\0\0"
_GREETING = struct.Struct("!8sHHI32s16sQQ")
_GREETING_START = struct.Struct("!8sHH")
CHECKED, STAY = 1, 2  # flags of the greeting
PLACE_BYTES = 256
GREETING_BYTES, GREETING_START_BYTES = _GREETING.size, _GREETING_START.size


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
    """What one side says first: see `vlacut.runtime.wire.protocol`.

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
