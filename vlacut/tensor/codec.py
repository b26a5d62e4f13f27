"""Codecs: how a tensor may be written on the wire, and to how many bytes. Plain data.

The bytes are specified, and made, by `vlacut.runtime.wire.codecs`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from vlacut.errors import InputError
from vlacut.tensor.picture import pictures_in
from vlacut.tensor.spec import TensorSpec

GROUP = 32  # elements that share a scale of int4


class Codec(str, Enum):
    """How a tensor is written.

    NONE: its bytes as they are. Four are for floating-point tensors, and lose digits: FP16, BF16:
    numbers of 16 bits. INT8: 8 bits, with a scale for each row (a token). INT4: 4 bits, with a
    scale for each GROUP elements. The others are for pictures of uint8 (`vlacut.tensor.picture`):
    ZSTD, which loses nothing; JPEG95 to JPEG50, named by their quality.
    """

    NONE = "none"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    INT4 = "int4"
    ZSTD = "zstd"
    JPEG95 = "jpeg95"
    JPEG90 = "jpeg90"
    JPEG85 = "jpeg85"
    JPEG80 = "jpeg80"
    JPEG75 = "jpeg75"
    JPEG70 = "jpeg70"
    JPEG65 = "jpeg65"
    JPEG60 = "jpeg60"
    JPEG55 = "jpeg55"
    JPEG50 = "jpeg50"

    def __str__(self) -> str:
        return self.value

    @property
    def quality(self) -> int | None:
        """The quality of a JPEG codec; None for other codecs."""
        return int(self.value[len(_JPEG) :]) if self.value.startswith(_JPEG) else None

    @property
    def varies(self) -> bool:
        """Whether its bytes depend on the numbers: those of pictures do."""
        return self is Codec.ZSTD or self.quality is not None


_JPEG = "jpeg"
_MOST_JPEG_SIDE = 65500  # pixels: libjpeg's JPEG_MAX_DIMENSION
_WIDER = ("float32", "float64")
_CODED = {
    Codec.FP16: _WIDER,
    Codec.BF16: _WIDER,
    Codec.INT8: (*_WIDER, "float16", "bfloat16"),
    Codec.INT4: (*_WIDER, "float16", "bfloat16"),
}


def takes(codec: Codec, spec: TensorSpec) -> bool:
    """Whether a codec can write such a tensor."""
    if codec.varies:
        found = pictures_in(spec) if spec.dtype == "uint8" else None
        if found is None or codec.quality is None:
            return found is not None
        return max(found.count * found.height, found.width) <= _MOST_JPEG_SIDE
    return codec is Codec.NONE or (spec.dtype in _CODED[codec] and math.prod(spec.shape) > 0)


def rows_of(spec: TensorSpec) -> tuple[int, int]:
    """How many rows a tensor has, and the elements of each; a row is along the last dimension."""
    width = spec.shape[-1] if spec.shape else 1
    return math.prod(spec.shape) // max(width, 1), width


def coded_bytes(codec: Codec, spec: TensorSpec) -> int:
    """Bytes of a tensor in coded form, scales included; `takes` must hold.

    For a codec that varies, this is the upper bound: the bytes of the tensor without it.
    """
    size = math.prod(spec.shape)
    if codec is Codec.NONE or codec.varies:
        return spec.nbytes
    if codec is Codec.INT8:
        return size + 4 * rows_of(spec)[0]
    if codec is Codec.INT4:
        return (size + 1) // 2 + 2 * -(-size // GROUP)
    return 2 * size


@dataclass(frozen=True)
class Coding:
    """A codec on a flow that crosses in one direction: the cost of one production.

    Attributes:
        codec: how it is written.
        nbytes: bytes on the wire; for a codec that varies, the expected bytes.
        edge_s, cloud_s: seconds of each side's processor: one side encodes, the other decodes.
    """

    codec: Codec
    nbytes: int
    edge_s: float
    cloud_s: float


def parse_codecs(text: str) -> tuple[Codec, ...]:
    """The codecs that `fp16,int8,jpeg90`, or `all`, names; InputError otherwise."""
    known = {codec.value: codec for codec in Codec if codec is not Codec.NONE}
    if text in ("", "none"):
        return ()
    if text == "all":
        return tuple(known.values())
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise InputError(
                f"codecs {text!r}: there is no codec {name!r}; write all, or some of "
                f"{','.join(known)}"
            )
    return tuple(codec for name, codec in known.items() if name in names)
