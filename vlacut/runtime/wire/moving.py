"""Moving: the place that a robot is sent to, as it stands behind a greeting."""

from __future__ import annotations

from vlacut.errors import InputError, PeerMoved, WireError
from vlacut.runtime.wire.protocol.greeting import PLACE_BYTES
from vlacut.runtime.wire.sockets import parse_address


def pack_place(place: str) -> bytes:
    """The bytes of `HOST:PORT` on the wire. Raises InputError if it is none, or too long."""
    parse_address(place)
    if not place.isascii() or len(place) > PLACE_BYTES:
        raise InputError(
            f"address {place!r} cannot be told to a robot: write it in at most {PLACE_BYTES} "
            f"characters of ASCII"
        )
    return place.encode().ljust(PLACE_BYTES, b"\0")


def unpack_place(data: bytes) -> PeerMoved:
    """What sends a robot to the place in these bytes. Raises WireError if they are none."""
    try:
        place = data.rstrip(b"\0").decode("ascii")
        host, port = parse_address(place if place.isprintable() else "")  # it goes into logs
    except (InputError, UnicodeDecodeError) as error:
        raise WireError("the cloud sends this robot to an address that does not parse") from error
    return PeerMoved(host, port)
