"""What LeRobot's client is answered: timed actions, as the pickle that it reads.

    [TimedAction(timestamp=..., timestep=..., action=torch.tensor([...])), ...]

Written operation by operation, so that this side needs neither LeRobot nor torch.
"""

from __future__ import annotations

import struct

import numpy as np

_PROTOCOL = b"\x80\x04"
_CLASS, _MAKER, _KEYS = 0, 1, 2  # places in the memo; the keys follow each other


def actions_pickle(
    module: str, actions: np.ndarray, timestamp: float, timestep: int, period_s: float
) -> bytes:
    """The pickle of a chunk.

    Args:
        module: where the client has its `TimedAction`.
        actions: [commands, n].
        timestamp: of the observation, in the client's clock.
        timestep: of the observation; a command's is that and its place.
        period_s: between commands.
    """
    parts = [_PROTOCOL]
    for place, (where, name) in enumerate(((module, "TimedAction"), ("torch", "tensor"))):
        parts += [f"c{where}\n{name}\n".encode(), b"q", bytes([place]), b"0"]
    for place, key in enumerate(("timestamp", "timestep", "action")):
        parts += [_text(key), b"q", bytes([_KEYS + place]), b"0"]
    parts.append(b"](")
    for place, command in enumerate(actions):
        parts += [_got(_CLASS), b")\x81}("]
        parts += [_got(_KEYS), _float(timestamp + place * period_s)]
        parts += [_got(_KEYS + 1), _integer(timestep + place)]
        parts += [_got(_KEYS + 2), _got(_MAKER), b"](", *map(_float, command), b"e\x85R", b"ub"]
    parts.append(b"e.")
    return b"".join(parts)


def _got(place: int) -> bytes:
    return b"h" + bytes([place])


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def _float(number: float) -> bytes:
    return b"G" + struct.pack(">d", float(number))


def _integer(number: int) -> bytes:
    packed = number.to_bytes(9, "little", signed=True)
    return b"\x8a" + bytes([len(packed)]) + packed
