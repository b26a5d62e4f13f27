"""Messages of LeRobot's `services.proto`, which has two kinds of fields: a number and bytes.

    PolicySetup { bytes data = 1; }       Observation { TransferState transfer_state = 1;
    Actions { bytes data = 1; }                         bytes data = 2; }

Source: huggingface/lerobot, src/lerobot/transport/services.proto; protobuf's encoding.
"""

from __future__ import annotations

from vlacut.errors import WireError

END = 3  # of an observation's transfer states, of which the pieces before it have 1 and 2
_VARINT, _BYTES = 0, 2


def fields_of(message: bytes) -> dict[int, int | bytes]:
    """Fields by their number; of a field that comes twice, the last. WireError if it is none."""
    found: dict[int, int | bytes] = {}
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind, value = tag & 7, 0
        value, at = _varint(message, at)
        if kind == _VARINT:
            found[tag >> 3] = value
        elif kind == _BYTES and value <= len(message) - at:
            found[tag >> 3] = message[at : at + value]
            at += value
        else:
            raise WireError("the message is none of LeRobot's: a field is cut short, or of no kind")
    return found


def data_of(message: bytes, number: int) -> bytes:
    """The bytes of a field, empty if it is not there; WireError if it is a number."""
    found = fields_of(message).get(number, b"")
    if not isinstance(found, bytes):
        raise WireError("the message is none of LeRobot's: its data is a number")
    return found


def actions_message(data: bytes) -> bytes:
    """An `Actions`."""
    if not data:
        return b""
    length, rest = len(data), bytearray()
    while length > 0x7F:
        rest.append(length & 0x7F | 0x80)
        length >>= 7
    return b"\x0a" + bytes(rest) + bytes([length]) + data


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if at + place >= len(message):
            break
        byte = message[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise WireError("the message is none of LeRobot's: a number is cut short")
