"""How fast a machine's processor writes and reads tensors in coded form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vlacut.errors import HardwareError

JPEG = "jpeg"  # of every quality


@dataclass(frozen=True)
class CodecSpeed:
    """Seconds of a codec in one direction; what they are for, see `vlacut.pricing.codec_cost` and,
    of pictures, `vlacut.pricing.picture_cost`.

    Attributes:
        call_s: of a call.
        element_s: of each element of a float32 tensor; of each pixel of a picture.
        bit_s: of each bit of a picture's coded form.
        planar_s: of each pixel, beyond that, where a picture's channels come first.
        conversion_s: of each element of another type than float32, beyond that, by type.

    Raises HardwareError for a figure that is negative or no number.
    """

    call_s: float
    element_s: float
    bit_s: float = 0.0
    planar_s: float = 0.0
    conversion_s: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        figures = (self.call_s, self.element_s, self.bit_s, self.planar_s)
        if not all(0 <= figure < math.inf for figure in (*figures, *self.conversion_s.values())):
            raise HardwareError("[codecs]: seconds must be numbers from 0 on")

    def scaled(self, factor: float) -> CodecSpeed:
        """On a processor that takes so many times as long."""
        return CodecSpeed(
            self.call_s * factor,
            self.element_s * factor,
            self.bit_s * factor,
            self.planar_s * factor,
            {dtype: seconds * factor for dtype, seconds in self.conversion_s.items()},
        )


@dataclass(frozen=True)
class CodecSpeeds:
    """Those of a machine, by the name of the codec; of JPEG there is one for every quality.

    Attributes:
        encode, decode: in either direction.
        source: where the figures are from.
    """

    encode: Mapping[str, CodecSpeed]
    decode: Mapping[str, CodecSpeed]
    source: str

    def scaled(self, factor: float) -> CodecSpeeds:
        """On a processor that takes so many times as long."""
        return replace(
            self,
            encode={name: speed.scaled(factor) for name, speed in self.encode.items()},
            decode={name: speed.scaled(factor) for name, speed in self.decode.items()},
        )
