"""Pictures: which tensors hold pictures, and in which layout.

| shape                       | what it holds                                         |
|-----------------------------|-------------------------------------------------------|
| [..., height, width, 3]     | pictures in colour                                    |
| [..., height, width, 4]     | the same with opacity, or depth                       |
| [..., 3, height, width]     | as the first, with the channels first                 |
| [..., 6, height, width]     | of bytes two such pictures; of floats one, normalised |
|                             | twice                                                 |

Every side has 8 pixels at least, so that no shape can be read both ways.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vlacut.tensor.spec import TensorSpec

_LEAST_SIDE = 8


@dataclass(frozen=True)
class Pictures:
    """The pictures of a tensor, all of one size.

    Attributes:
        count: how many.
        height, width: of each, in pixels.
        channels: of each pixel.
        channels_first: whether a picture is [channels, height, width], and not
            [height, width, channels].
    """

    count: int
    height: int
    width: int
    channels: int
    channels_first: bool

    @property
    def pixels(self) -> int:
        """Pixels of all pictures together."""
        return self.count * self.height * self.width


def pictures_in(spec: TensorSpec) -> Pictures | None:
    """The pictures that a tensor holds; None if it is no tensor of pictures."""
    if len(spec.shape) < 3:
        return None
    *leading, one, two, three = spec.shape
    count = math.prod(leading)
    if count and three in (3, 4) and min(one, two) >= _LEAST_SIDE:
        return Pictures(count, one, two, three, False)
    if count and one in (3, 6) and min(two, three) >= _LEAST_SIDE:
        twice = one // 3 if spec.dtype == "uint8" else 1
        return Pictures(count * twice, two, three, 3, True)
    return None


def by_picture(array: np.ndarray, pictures: Pictures) -> np.ndarray:
    """A view of a tensor, C-contiguous, as [count, height, width, channels]."""
    sides = pictures.height, pictures.width
    if pictures.channels_first:
        planes = array.reshape(pictures.count, pictures.channels, *sides)
        return planes.transpose(0, 2, 3, 1)
    return array.reshape(pictures.count, *sides, pictures.channels)
