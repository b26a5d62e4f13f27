"""Payloads of frames: their sizes, their bytes and the checksum of these."""

from __future__ import annotations

import zlib
from typing import Union

import numpy as np

MAX_ERROR_BYTES = 512
PROBE_BYTES = 32768
LENGTH_BYTES = 4  # of a coded tensor whose length varies
FIXED_TIMES = 7  # what the cloud says first in every frame: see `protocol`
_ROW_WORDS = 512
_BLOCK_BYTES = 8 * _ROW_WORDS
Payload = Union[np.ndarray, bytes]


def flat_bytes(data: Payload) -> np.ndarray:
    """The bytes of an array, or these, as uint8 [bytes]; a view where they are packed."""
    if isinstance(data, bytes):
        return np.frombuffer(data, np.uint8)
    flat: np.ndarray = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    return flat


def tensor_checksum(data: np.ndarray, check: int) -> int:
    """The checksum `check` over a tensor's bytes too, uint8 [bytes]: see `protocol`."""
    whole = data.size - data.size % _BLOCK_BYTES
    if whole:
        rows = data[:whole].view("<u8").reshape(-1, _ROW_WORDS)
        check = zlib.crc32(np.add.reduce(rows, axis=1).data, check)
        check = zlib.crc32(np.add.reduce(rows, axis=0).data, check)
    return zlib.crc32(data[whole:].data, check)
