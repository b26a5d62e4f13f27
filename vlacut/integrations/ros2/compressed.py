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
        most_bytes: of a picture, as its header says; a larger one is not decoded.

    Raises ObservationError for what is no such picture.
    """
    image = pillow()
    try:
        with image.open(io.BytesIO(data), formats=_FORMATS) as opened:
            width, height = opened.size
            if width * height * len(opened.getbands()) > most_bytes:
                raise ObservationError(
                    f"{name}: a picture of {height} x {width} is more than the bundle takes at all"
                )
            if opened.mode not in _MODES:
                raise ObservationError(
                    f"{name}: a picture of {opened.mode!r} is not taken: depths are no bytes"
                )
            pixels = np.array(opened.convert(_MODES[opened.mode]), np.uint8)
    except (*_UNREADABLE, image.DecompressionBombError) as error:
        raise ObservationError(
            f"{name}: {len(data)} bytes are no JPEG and no PNG: {error}"[:300]
        ) from error
    return pixels.reshape(height, width, -1)
