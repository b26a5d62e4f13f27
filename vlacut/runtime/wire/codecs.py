"""Codecs on the wire: numpy in, bytes out, and back. This page is the specification.

All numbers are little-endian. `float32(x)` is x itself, or x converted: float16 and bfloat16 widen,
float64 is rounded to nearest, ties to even, like every rounding below.

**fp16** (IEEE 754 binary16) and **bf16** (the upper half of binary32): an element after the other,
in the order of the tensor, each float32(x) rounded. What is finite stays finite: a number beyond
the largest of the type becomes that largest, with its sign. Infinities stay, NaNs become the NaN
0x7e00 or 0x7fc0.

**int8**, a row being what runs along the last dimension, `width` elements (1 of a scalar):

    float32 scale [rows]            float32(largest |x| of the row) / float32(127)
    int8    code [rows][width]      clip(round(float32(x) / scale), -127, 127); 0 where scale is 0

An element is decoded to float32(code) * scale. A row that holds a NaN or an infinity has the scale
NaN (0x7fc00000) and codes 0, so that all of it is NaN when decoded: it cannot pass unnoticed. A
scale is 0x7c010203 at most, the largest of which 127 are finite: masks hold float32's largest.

**int4**, a group being 32 elements that follow one another in the tensor, the last perhaps fewer:

    bf16    scale [groups]          float32(largest |x| of the group) / float32(7), as bf16 above
    uint8   pair [ceil(size / 2)]   element 2i in the lower, 2i + 1 in the upper four bits

The four bits are 8 + clip(round(float32(x) / scale), -7, 7), 8 where scale is 0; they are 8 beyond
the end of the tensor. An element is decoded to float32(bits - 8) * scale. A group that holds a NaN
or an infinity has the scale NaN (0x7fc0) and bits 8. A scale is 0x7e12 at most, as with int8.

Pictures: see `vlacut.runtime.wire.pictures`.

What is decoded of these four is float32, rounded to the tensor's type as fp16 and bf16 above.
Decoding takes any bytes: scales and codes that no encoder writes decode by the same products.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Protocol

import numpy as np

from vlacut.runtime.wire.pictures import PictureCoder
from vlacut.tensor import TensorSpec
from vlacut.tensor.codec import GROUP, Codec, coded_bytes, rows_of


def _single(bits: int) -> np.float32:
    """The float32 of these bits."""
    return np.float32(struct.unpack("<f", struct.pack("<I", bits))[0])


_BLOCK = 65536  # elements worked on at once: what they need stays in the cache
_SHORT = 128  # rows so short are reduced across, for numpy is slow along them
_FP16_MOST, _FP16_TIE = np.float32(65504.0), np.float32(65520.0)
_BF16_MOST_BITS, _BF16_NAN = 0x7F7F, np.uint16(0x7FC0)
_BF16_TIE = _single(0x7F7F8000)
_INT8_MOST, _INT4_MOST = _single(0x7C010203), _single(0x7E120000)
_LEAST_NORMAL = np.finfo(np.float32).tiny
_ZERO_PAIR = 0x88
_PAIRS = np.empty((256, 2), np.float32)  # of a byte of int4, the two codes
_PAIRS[:, 0], _PAIRS[:, 1] = np.arange(256) % 16 - 8.0, np.arange(256) // 16 - 8.0
_PAIRS_AS_ONE = _PAIRS.view(np.float64).reshape(-1)


class Coder(Protocol):
    """Codes tensors of one spec; not for several threads at a time.

    Attributes:
        nbytes: of a coded tensor; at most, where the codec varies.
    """

    nbytes: int

    def encode(self, array: np.ndarray, out: np.ndarray) -> int:
        """Write an array in coded form; how many bytes that took.

        Args:
            array: of the spec's shape and element type, C-contiguous.
            out: uint8 [nbytes], aligned to four.
        """

    def decode(self, coded: np.ndarray, out: np.ndarray) -> None:
        """Write the array that bytes are the coded form of.

        Args:
            coded: uint8, as many as `encode` took; aligned to four where the codec does not vary.
            out: of the spec's shape and element type, C-contiguous.

        Raises CodecError if they are the coded form of none.
        """


def coder_of(codec: Codec, spec: TensorSpec) -> Coder:
    """A coder of a codec that `takes` the spec; InputError if a library of it is not there."""
    return (PictureCoder if codec.varies else NumberCoder)(codec, spec)


class NumberCoder:
    """Codes tensors of floating-point numbers by the formulas above.

    Args:
        codec: that does not vary, and `takes` the spec.
        spec: of the tensors.

    Attributes:
        nbytes: of a coded tensor.
    """

    def __init__(self, codec: Codec, spec: TensorSpec) -> None:
        self.nbytes = coded_bytes(codec, spec)
        self._dtype = spec.dtype
        self._encode, self._decode = _CODERS[codec]
        count, width = rows_of(spec)
        self._shape = (count, width) if codec is Codec.INT8 else (1, count * width)

    def encode(self, array: np.ndarray, out: np.ndarray) -> int:
        """See `Coder.encode`: always `nbytes` bytes."""
        with np.errstate(all="ignore"):
            self._encode(array.reshape(self._shape), self._dtype, out)
        return self.nbytes

    def decode(self, coded: np.ndarray, out: np.ndarray) -> None:
        """See `Coder.decode`; any `nbytes` bytes are the coded form of some array."""
        with np.errstate(all="ignore"):
            self._decode(coded, self._dtype, out.reshape(self._shape))


def _blocks(size: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, size)) for start in range(0, size, step)]


def _widened(block: np.ndarray, dtype: str) -> np.ndarray:
    """float32 of a block; the block itself where it is."""
    if dtype == "bfloat16":
        return _from_bf16(block, np.empty(block.shape, np.float32))
    return block.astype(np.float32, copy=False)


def _narrow(block: np.ndarray, dtype: str, out: np.ndarray) -> None:
    """Write float32 as another type."""
    if dtype == "bfloat16":
        _to_bf16(block, out)
    elif dtype == "float16":
        _to_fp16(block, out)
    else:
        np.copyto(out, block)


def _outside(block: np.ndarray, tie: np.float32) -> bool:
    """Whether there is a number that would be rounded to an infinity, or is none."""
    return not (block.max() < tie and block.min() > -tie)


def _to_fp16(block: np.ndarray, out: np.ndarray) -> None:
    if _outside(block, _FP16_TIE):
        nan, infinite = np.isnan(block), np.isinf(block)
        kept = np.where(infinite, block, np.clip(block, -_FP16_MOST, _FP16_MOST))
        np.copyto(out, kept, casting="same_kind")
        out.view(np.uint16)[nan] = 0x7E00
    else:
        np.copyto(out, block, casting="same_kind")


def _to_bf16(block: np.ndarray, out: np.ndarray) -> None:
    bits = block.view(np.uint32)
    rounded = bits >> np.uint32(16)
    rounded &= np.uint32(1)
    rounded += np.uint32(0x7FFF)
    rounded += bits
    rounded >>= np.uint32(16)
    np.copyto(out, rounded, casting="unsafe")
    if _outside(block, _BF16_TIE):
        beyond = np.isfinite(block) & (np.abs(block) >= _BF16_TIE)
        out[beyond] = np.where(block[beyond] > 0, _BF16_MOST_BITS, 0x8000 | _BF16_MOST_BITS)
        out[np.isnan(block)] = _BF16_NAN


def _from_bf16(bits: np.ndarray, out: np.ndarray) -> np.ndarray:
    wide = out.view(np.uint32)
    np.copyto(wide, bits)
    np.left_shift(wide, np.uint32(16), out=wide)
    return out


def _encode_fp16(array: np.ndarray, dtype: str, out: np.ndarray) -> None:
    flat, made = array.reshape(-1), out.view("<f2")
    for block in _blocks(flat.size, _BLOCK):
        _to_fp16(_widened(flat[block], dtype), made[block])


def _decode_fp16(coded: np.ndarray, dtype: str, out: np.ndarray) -> None:
    np.copyto(out.reshape(-1), coded.view("<f2"))


def _encode_bf16(array: np.ndarray, dtype: str, out: np.ndarray) -> None:
    flat, made = array.reshape(-1), out.view("<u2")
    for block in _blocks(flat.size, _BLOCK):
        _to_bf16(_widened(flat[block], dtype), made[block])


def _decode_bf16(coded: np.ndarray, dtype: str, out: np.ndarray) -> None:
    bits, flat = coded.view("<u2"), out.reshape(-1)
    if dtype == "float32":
        _from_bf16(bits, flat)
        return
    for block in _blocks(flat.size, _BLOCK):
        wide = np.empty(bits[block].shape, np.float32)
        _narrow(_from_bf16(bits[block], wide), dtype, flat[block])


def _largest(rows: np.ndarray) -> np.ndarray:
    """Largest magnitude of every row; NaN where there is one."""
    if rows.shape[1] <= _SHORT:
        return np.asarray(np.abs(rows.T, order="C").max(axis=0))
    return np.asarray(np.maximum(rows.max(axis=1), -rows.min(axis=1)))


def _scale(rows: np.ndarray, most: int, cap: np.float32) -> np.ndarray:
    """Scale of every row; NaN where a number of it is not finite."""
    scale = _largest(rows)
    scale[~np.isfinite(scale)] = np.nan
    scale /= np.float32(most)
    np.minimum(scale, cap, out=scale)
    return scale


def _quantised(rows: np.ndarray, scale: np.ndarray, most: int) -> np.ndarray:
    """Codes of every row as float32; 0 where the scale is 0 or no number."""
    divisor = np.where(scale > 0, scale, np.float32(np.inf))
    codes = rows / divisor[:, None]
    np.rint(codes, out=codes)
    if not np.isfinite(scale).all():
        codes[~np.isfinite(scale)] = 0
    if ((scale > 0) & (scale < _LEAST_NORMAL)).any():  # where the scale has few digits itself
        np.clip(codes, -most, most, out=codes)
    return codes


def _encode_int8(array: np.ndarray, dtype: str, out: np.ndarray) -> None:
    count, width = array.shape
    scales = out[: 4 * count].view("<f4")
    made = out[4 * count :].view(np.int8).reshape(array.shape)
    for block in _blocks(count, max(1, _BLOCK // width)):
        rows = _widened(array[block], dtype)
        scales[block] = _scale(rows, 127, _INT8_MOST)
        np.copyto(made[block], _quantised(rows, scales[block], 127), casting="unsafe")


def _decode_int8(coded: np.ndarray, dtype: str, out: np.ndarray) -> None:
    count, width = out.shape
    scales = coded[: 4 * count].view("<f4")
    codes = coded[4 * count :].view(np.int8).reshape(out.shape)
    for block in _blocks(count, max(1, _BLOCK // width)):
        rows = out[block] if dtype == "float32" else np.empty(codes[block].shape, np.float32)
        np.multiply(codes[block], scales[block, None], out=rows)
        if dtype != "float32":
            _narrow(rows, dtype, out[block])


def _encode_int4(array: np.ndarray, dtype: str, out: np.ndarray) -> None:
    flat = array.reshape(-1)
    groups = math.ceil(flat.size / GROUP)
    scales, pairs = out[: 2 * groups].view("<u2"), out[2 * groups :]
    for block in _blocks(flat.size, _BLOCK):
        numbers = _widened(flat[block], dtype)
        if numbers.size % GROUP:
            numbers = np.concatenate([numbers, np.zeros(-numbers.size % GROUP, np.float32)])
        rows = numbers.reshape(-1, GROUP)
        first = block.start // GROUP
        bits = scales[first : first + len(rows)]
        _to_bf16(_scale(rows, 7, _INT4_MOST), bits)
        scale = _from_bf16(bits, np.empty(len(rows), np.float32))
        codes = _quantised(rows, scale, 7)
        codes += np.float32(8)
        halves = codes.reshape(-1).astype(np.uint8).view("<u2")
        kept = pairs[block.start // 2 : (block.stop + 1) // 2]
        np.copyto(kept, (halves | halves >> 4)[: kept.size], casting="unsafe")


def _decode_int4(coded: np.ndarray, dtype: str, out: np.ndarray) -> None:
    flat = out.reshape(-1)
    groups = math.ceil(flat.size / GROUP)
    bits, pairs = coded[: 2 * groups].view("<u2"), coded[2 * groups :]
    scales = _from_bf16(bits, np.empty(groups, np.float32))
    for block in _blocks(flat.size, _BLOCK):
        held = pairs[block.start // 2 : (block.stop + 1) // 2]
        if held.size % (GROUP // 2):
            fill = np.full(-held.size % (GROUP // 2), _ZERO_PAIR, np.uint8)
            held = np.concatenate([held, fill])
        rows = _PAIRS_AS_ONE.take(held, mode="clip").view(np.float32).reshape(-1, GROUP)
        first = block.start // GROUP
        rows *= scales[first : first + len(rows), None]
        _narrow(rows.reshape(-1)[: block.stop - block.start], dtype, flat[block])


_Code = Callable[[np.ndarray, str, np.ndarray], None]
_CODERS: dict[Codec, tuple[_Code, _Code]] = {
    Codec.FP16: (_encode_fp16, _decode_fp16),
    Codec.BF16: (_encode_bf16, _decode_bf16),
    Codec.INT8: (_encode_int8, _decode_int8),
    Codec.INT4: (_encode_int4, _decode_int4),
}
