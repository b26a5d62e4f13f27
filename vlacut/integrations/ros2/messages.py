"""Messages of ROS as arrays: pictures, joints, and whatever has numbers at a field's path.

Only attributes are read, so that this needs no ROS. Source: sensor_msgs/msg/{Image,JointState},
std_msgs/msg/Float64MultiArray, sensor_msgs/image_encodings.hpp.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vlacut.errors import ObservationError, suggestion
from vlacut.integrations.ros2 import compressed
from vlacut.integrations.ros2.wiring import Source

# Bytes of a pixel that are kept, in the order of red, green and blue.
_ENCODINGS = {
    "rgb8": (3, (0, 1, 2)),
    "bgr8": (3, (2, 1, 0)),
    "rgba8": (4, (0, 1, 2)),
    "bgra8": (4, (2, 1, 0)),
    "mono8": (1, (0,)),
}


def array_of(name: str, source: Source, message: Any, most_bytes: int) -> np.ndarray:
    """The array of an input in a message.

    Args:
        name: of the input, for errors.
        source: of it.
        message: of the source's type.
        most_bytes: that a picture may become.

    Raises ObservationError for a message that has not what the source says.
    """
    if source.type == "sensor_msgs/msg/Image":
        return _picture(name, message)
    if source.type == compressed.TYPE:
        return compressed.decoded(name, bytes(message.data), most_bytes)
    if source.type == "sensor_msgs/msg/JointState":
        return _joints(name, source, message)
    found = message
    for part in source.field.split(".") if source.field else ("data",):
        if not hasattr(found, part):
            raise ObservationError(f"{name}: a {source.type} has no {source.field or 'data'!r}")
        found = getattr(found, part)
    try:
        return np.asarray(found, np.float64)
    except (TypeError, ValueError) as error:
        raise ObservationError(
            f"{name}: {source.field!r} of a {source.type} is no number"
        ) from error


def stamp_ns(message: Any) -> int:
    """When a message says that it was captured, on ROS's clock; 0 where it does not say."""
    stamp = getattr(getattr(message, "header", None), "stamp", None)
    return 0 if stamp is None else int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def _picture(name: str, message: Any) -> np.ndarray:
    """Uint8 [height, width, channels]; rows may have bytes behind them."""
    if message.encoding not in _ENCODINGS:
        raise ObservationError(
            f"{name}: pictures of {message.encoding!r:.40} are not taken; "
            f"{suggestion(str(message.encoding), _ENCODINGS)}"
        )
    count, order = _ENCODINGS[message.encoding]
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = np.frombuffer(bytes(message.data), np.uint8)
    if step < width * count or len(data) < height * step or min(height, width) < 1:
        raise ObservationError(
            f"{name}: a picture of {height} x {width} in {message.encoding} with rows of {step} "
            f"bytes has {len(data)}"
        )
    rows = data[: height * step].reshape(height, step)[:, : width * count]
    return np.ascontiguousarray(rows.reshape(height, width, count)[:, :, list(order)])


def _joints(name: str, source: Source, message: Any) -> np.ndarray:
    """Numbers of the joints that the source names, in its order; drivers send theirs in any."""
    field = source.field or "position"
    values = list(getattr(message, field, ()))
    if not source.names:
        return np.array(values, np.float64)
    there = {joint: place for place, joint in enumerate(message.name)}
    for joint in source.names:
        if joint not in there or there[joint] >= len(values):
            raise ObservationError(
                f"{name}: the message has no {field} of joint {joint!r:.60}; "
                f"{suggestion(joint, there)}"
            )
    return np.array([values[there[joint]] for joint in source.names], np.float64)
