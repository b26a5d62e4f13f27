"""Compressed pictures of ROS: a JPEG or a PNG in `data`, decoded by Pillow.

Source: sensor_msgs/msg/CompressedImage; compressed_image_transport, whose JPEGs and PNGs of colour
are those of every other program, whatever `format` says of the order before.
"""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np

from vlacut.errors import InputError, ObservationError

TYPE = "sensor_msgs/msg/CompressedImage"
_FORMATS = ("JPEG", "PNG")
# What Pillow's readers raise for bytes that are none of theirs, a chunk that ends too early too.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error)
_PNG = b"\x89PNG\r\n\x1a\n"
# Chunks that Pillow unpacks to 64 MB in all, and no pixel is made of: PNG, section 11.3.
_PACKED = (b"zTXt", b"iTXt", b"iCCP")
_MODES = {"L": "L", "RGB": "RGB", "RGBA": "RGB", "P": "RGB", "CMYK": "RGB", "1": "L", "LA": "L"}


def pillow() -> Any:
    """Pillow's `Image`; InputError that says what to install."""
    try:
        from PIL import Image
    except ImportError as error:
        raise InputError(f"{TYPE} needs pillow: pip install 'vlacut[ros2]'") from error
    return Image


def decoded(name: str, data: bytes, most_bytes: int) -> np.ndarray:
    """Uint8 [height, width, channels]: grey, or red, green and blue.

    Args:
        name: of the input, for errors.
        data: of the message.
        most_bytes: of a picture, as its header says, or of what is made of it: a byte of a palette
            becomes three. A larger one is not decoded.

    Raises ObservationError for what is no such picture.
    """
    image = pillow()
    try:
        with image.open(io.BytesIO(_unpacked(data)), formats=_FORMATS) as opened:
            if opened.mode not in _MODES:
                raise ObservationError(
                    f"{name}: a picture of {opened.mode!r} is not taken: depths are no bytes"
                )
            (width, height), made = opened.size, _MODES[opened.mode]
            if width * height * max(len(opened.getbands()), image.getmodebands(made)) > most_bytes:
                raise ObservationError(
                    f"{name}: a picture of {height} x {width} is more than the bundle takes at all"
                )
            pixels = np.array(opened.convert(made), np.uint8)
    except (*_UNREADABLE, image.DecompressionBombError) as error:
        raise ObservationError(
            f"{name}: {len(data)} bytes are no JPEG and no PNG: {error}"[:300]
        ) from error
    return pixels.reshape(height, width, -1)


def _unpacked(data: bytes) -> bytes:
    """A PNG without `_PACKED`; whatever else it is, as it is."""
    if not data.startswith(_PNG):
        return data
    kept, place = [_PNG], len(_PNG)
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        end = place + 12 + length  # length and kind before the chunk, a sum behind it
        if data[place + 4 : place + 8] not in _PACKED:
            kept.append(data[place:end])
        place = end
    return b"".join(kept)
