"""Protobuf's wire, as much as it takes to step over fields, and to write bytes and numbers.

protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_FIXED = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}
_LONGEST_VARINT = 10


def field(number: int, payload: bytes) -> bytes:
    """A field of bytes."""
    return _number(number << 3 | _BYTES) + _number(len(payload)) + payload


def _number(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])


def fields_of(message: bytes) -> Iterator[tuple[int, bytes | None, bytes]]:
    """Number, bytes (None of a number), and all that the field takes, of every field.

    ValueError where the message is none.
    """
    at = 0
    while at < len(message):
        start = at
        tag, at = varint(message, at)
        number, kind = tag >> 3, tag & 7
        payload: bytes | None = None
        if kind == _VARINT:
            _, at = varint(message, at)
        elif kind == _BYTES:
            size, at = varint(message, at)
            payload = message[at : at + size]
            at += size
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            raise ValueError(f"field {number} is of kind {kind}")
        if at > len(message):
            raise ValueError(f"field {number} is cut short")
        yield number, payload, message[start:at]


def varints(packed: bytes) -> list[int]:
    """Numbers, one after the other."""
    found, at = [], 0
    while at < len(packed):
        value, at = varint(packed, at)
        found.append(value)
    return found


def varint(message: bytes, at: int) -> tuple[int, int]:
    """A number at a place, and the place after it. ValueError where it is cut short."""
    value = 0
    for place in range(_LONGEST_VARINT):
        if at + place >= len(message):
            break
        byte = message[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError("a number is cut short")
