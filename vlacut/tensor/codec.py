"""Codecs: how a tensor may be written on the wire, and to how many bytes. Plain data.

The bytes are specified, and made, by `vlacut.runtime.wire.codecs`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from vlacut.errors import InputError
from vlacut.tensor.spec import TensorSpec

GROUP = 32  # elements that share a scale of int4


class Codec(str, Enum):
    """How a tensor is written. All but NONE lose digits, and are for floating-point tensors alone.

    NONE: its bytes as they are. FP16, BF16: numbers of 16 bits. INT8: 8 bits, with a scale for each
    row (a token). INT4: 4 bits, with a scale for each GROUP elements.
    """

    NONE = "none"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    INT4 = "int4"

    def __str__(self) -> str:
        return self.value


_WIDER = ("float32", "float64")
_CODED = {
    Codec.FP16: _WIDER,
    Codec.BF16: _WIDER,
    Codec.INT8: (*_WIDER, "float16", "bfloat16"),
    Codec.INT4: (*_WIDER, "float16", "bfloat16"),
}


def takes(codec: Codec, spec: TensorSpec) -> bool:
    """Whether a codec can write such a tensor."""
    return codec is Codec.NONE or (spec.dtype in _CODED[codec] and math.prod(spec.shape) > 0)


def rows_of(spec: TensorSpec) -> tuple[int, int]:
    """How many rows a tensor has, and the elements of each; a row is along the last dimension."""
    width = spec.shape[-1] if spec.shape else 1
    return math.prod(spec.shape) // max(width, 1), width


def coded_bytes(codec: Codec, spec: TensorSpec) -> int:
    """Bytes of a tensor in coded form, scales included; `takes` must hold."""
    size = math.prod(spec.shape)
    if codec is Codec.NONE:
        return spec.nbytes
    if codec is Codec.INT8:
        return size + 4 * rows_of(spec)[0]
    if codec is Codec.INT4:
        return (size + 1) // 2 + 2 * -(-size // GROUP)
    return 2 * size


@dataclass(frozen=True)
class Coding:
    """A codec on a flow that crosses in one direction: what one production comes to.

    Attributes:
        codec: how it is written.
        nbytes: on the wire.
        edge_s, cloud_s: seconds that its processor takes to encode it on the one side and to decode
            it on the other.
    """

    codec: Codec
    nbytes: int
    edge_s: float
    cloud_s: float


def parse_codecs(text: str) -> tuple[Codec, ...]:
    """The codecs that `fp16,int8`, or `all`, names, none included never; InputError otherwise."""
    lossy = tuple(codec for codec in Codec if codec is not Codec.NONE)
    if text in ("", "none"):
        return ()
    if text == "all":
        return lossy
    names = [name.strip() for name in text.split(",")]
    known = {codec.value: codec for codec in lossy}
    for name in names:
        if name not in known:
            raise InputError(
                f"codecs {text!r}: there is no codec {name!r}; write all, or some of "
                f"{','.join(known)}"
            )
    return tuple(codec for codec in lossy if codec.value in names)
