"""Codecs of pictures: uint8 in, fewer bytes out, and back. This page is the specification.

How the pictures of a tensor lie in it: see `vlacut.tensor.picture`. A coded tensor that would not
be smaller is sent as it is: so many bytes as it has without a codec are just that.

**jpeg50 to jpeg95** (ITU-T T.81, baseline, one scan, JFIF; chroma halved both ways) of that
quality, as libjpeg counts it. The pictures stand on top of each other in one, red, green and blue
alone. A fourth channel follows as a JPEG of grey; then a u32, little-endian, says before both how
many bytes the first has.

**zstd** (RFC 8878, one frame) of what a filter leaves. All of it is modulo 256: red and blue less
green; of that every row less the row above it, the first row as it is; of that every pixel less the
pixel before it in its row, the first as it is. A fourth channel is filtered as green is.

Whoever decodes allocates by the plan alone: a JPEG whose header names other sizes, or what would
take more passes over the picture than one, is refused before it is decoded, and zstd is given a
window and an output no larger than the tensor. Bytes that cannot be decoded are a CodecError.

The libraries are simplejpeg (libjpeg-turbo) and zstd of Python 3.14, before that backports.zstd:
`pip install 'vlacut[pictures]'`. They are loaded when a plan asks for them.
"""

from __future__ import annotations

import importlib
import struct
from typing import Any

import numpy as np

from vlacut.errors import CodecError, InputError
from vlacut.plans.instructions import Transfer, flatten
from vlacut.plans.plan import Plan
from vlacut.tensor import TensorSpec
from vlacut.tensor.codec import Codec
from vlacut.tensor.picture import Pictures, by_picture, pictures_in

INSTALL = "pip install 'vlacut[pictures]'"
_JPEG_MODULES = ("simplejpeg",)
_ZSTD_MODULES = ("compression.zstd", "backports.zstd")
_COUNT = struct.Struct("<I")
_SOI, _SOS, _SOF0 = 0xD8, 0xDA, 0xC0
_PLAIN = frozenset((0xE0, 0xDB, _SOF0, 0xC4))  # APP0, quantisation, frame and Huffman tables
_MOST_SEGMENTS = 16
_LEAST_WINDOW_LOG = 10  # of zstd's format
# Bytes behind the filter repeat so little that what pays is their Huffman code: a small table of
# matches takes a third of the time of the level's own, for the same size (tools/bench_codecs.py).
_LEVEL, _HASH_LOG, _MIN_MATCH = 1, 8, 7


def library(codec: Codec) -> Any:
    """The module that a codec of pictures needs; InputError that says what to install."""
    names = _ZSTD_MODULES if codec is Codec.ZSTD else _JPEG_MODULES
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise InputError(f"pictures as {codec} need {names[-1]}, which is not here: {INSTALL}")


def require_libraries(plan: Plan) -> None:
    """Raise InputError if a codec of pictures that a plan names is not installed here."""
    for variant in plan.variants:
        for item in flatten(variant.schedule):
            for codec in item.codecs if isinstance(item, Transfer) else ():
                if codec.varies:
                    library(codec)


class PictureCoder:
    """Codes tensors of pictures; not for several threads at a time.

    Args:
        codec: one that varies, and `takes` the spec.
        spec: of the tensors.

    Attributes:
        nbytes: bytes of a coded tensor, at most: as many as it has without a codec.

    Raises InputError if the library is not there.
    """

    def __init__(self, codec: Codec, spec: TensorSpec) -> None:
        self.nbytes = spec.nbytes
        pictures = pictures_in(spec)
        assert pictures is not None, "`takes` does not hold"
        self._form: _Jpeg | _Zstd
        self._form = _Zstd(pictures) if codec is Codec.ZSTD else _Jpeg(pictures, codec)
        self._name = f"{spec.name}: {codec}"

    def encode(self, array: np.ndarray, out: np.ndarray) -> int:
        """See `Coder.encode`."""
        pieces = self._form.encode(array)
        size = sum(map(len, pieces))
        if size >= self.nbytes:
            out[: self.nbytes] = array.reshape(-1)
            return self.nbytes
        at = 0
        for piece in pieces:
            out[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
            at += len(piece)
        return size

    def decode(self, coded: np.ndarray, out: np.ndarray) -> None:
        """See `Coder.decode`. Raises CodecError, naming the tensor and its codec."""
        if coded.size == self.nbytes:
            out.reshape(-1)[:] = coded
            return
        try:
            self._form.decode(coded, out)
        except CodecError as error:
            raise CodecError(f"{self._name}: {error}") from error


class _Jpeg:
    def __init__(self, pictures: Pictures, codec: Codec) -> None:
        self._library = library(codec)
        self._quality = codec.quality
        self._pictures = pictures
        self._height, self._width = pictures.count * pictures.height, pictures.width
        self._apart = pictures.channels_first or pictures.channels > 3
        shape = pictures.count, pictures.height, pictures.width
        self._colours = np.empty((*shape, 3) if self._apart else 0, np.uint8)
        self._greys = np.empty((*shape, 1) if pictures.channels > 3 else 0, np.uint8)

    def encode(self, array: np.ndarray) -> list[bytes]:
        seen = by_picture(array, self._pictures)
        if self._apart:
            _copy_planes(self._colours, seen)
            colours = self._code(self._colours, "RGB")
        else:
            colours = self._code(seen, "RGB")
        if not self._greys.size:
            return [colours]
        np.copyto(self._greys, seen[..., 3:])
        return [_COUNT.pack(len(colours)), colours, self._code(self._greys, "GRAY")]

    def decode(self, coded: np.ndarray, out: np.ndarray) -> None:
        seen = by_picture(out, self._pictures)
        greys = b""
        data = coded.tobytes()
        if self._greys.size:
            data, greys = _two(data)
        if not self._apart:
            self._decode(data, seen, "RGB")
            return
        self._decode(data, self._colours, "RGB")
        _copy_planes(seen, self._colours)
        if self._greys.size:
            self._decode(greys, self._greys, "GRAY")
            np.copyto(seen[..., 3:], self._greys)

    def _code(self, stack: np.ndarray, colours: str) -> bytes:
        tall = stack.reshape(self._height, self._width, -1)
        sampling = "420" if colours == "RGB" else "Gray"
        made: bytes = self._library.encode_jpeg(tall, self._quality, colours, sampling, False)
        return made

    def _decode(self, data: bytes, stack: np.ndarray, colours: str) -> None:
        _check_jpeg(data, self._height, self._width, 3 if colours == "RGB" else 1)
        try:
            self._library.decode_jpeg(data, colours, buffer=stack.reshape(-1))
        except (ValueError, RuntimeError) as error:
            raise CodecError(f"the JPEG is damaged: {error}") from error


def _copy_planes(target: np.ndarray, source: np.ndarray) -> None:
    """Copy the colours, one after the other: numpy is slow along three bytes."""
    for channel in range(3):
        np.copyto(target[..., channel], source[..., channel])


def _two(data: bytes) -> tuple[bytes, bytes]:
    """The JPEG of the colours and that of the grey."""
    count = _COUNT.unpack_from(data)[0] if len(data) >= _COUNT.size else len(data)
    if count > len(data) - _COUNT.size:
        raise CodecError("the JPEGs are cut off")
    return data[_COUNT.size : _COUNT.size + count], data[_COUNT.size + count :]


def _check_jpeg(data: bytes, height: int, width: int, channels: int) -> None:
    """Raise CodecError unless it is a baseline JPEG of one scan and this size.

    A progressive one, or one of many scans, would take a pass over the picture for a few bytes.
    """
    if data[:2] != bytes((0xFF, _SOI)):
        raise CodecError("it is no JPEG")
    at, shape = 2, None
    for _ in range(_MOST_SEGMENTS):
        if at + 4 > len(data) or data[at] != 0xFF:
            break
        marker, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _SOS:
            if shape != (8, height, width, channels):
                raise CodecError(
                    f"the JPEG is not of {height} x {width} pixels of {channels} bytes"
                )
            if data[at + 4 : at + 5] != bytes((channels,)) or data.find(b"\xff\xda", at + 2) >= 0:
                raise CodecError("the JPEG has several scans")
            return
        if marker not in _PLAIN or (marker == _SOF0 and shape is not None):
            raise CodecError(f"the JPEG is not plain: it has a segment {marker:#x}")
        if marker == _SOF0 and at + 10 <= len(data):
            shape = struct.unpack_from(">BHHB", data, at + 4)
        at += 2 + size
    raise CodecError("the JPEG's header is damaged")


class _Zstd:
    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures
        self._library = zstd = library(Codec.ZSTD)
        self._size = pictures.pixels * pictures.channels
        setting = zstd.CompressionParameter
        options = {
            setting.compression_level: _LEVEL,
            setting.hash_log: _HASH_LOG,
            setting.min_match: _MIN_MATCH,
        }
        self._compressor = zstd.ZstdCompressor(options=options)
        window_log = max(_LEAST_WINDOW_LOG, (self._size - 1).bit_length())
        self._limits = {zstd.DecompressionParameter.window_log_max: window_log}

    def encode(self, array: np.ndarray) -> list[bytes]:
        left = self._filtered(array)
        return [self._compressor.compress(left.data, self._compressor.FLUSH_FRAME)]

    def decode(self, coded: np.ndarray, out: np.ndarray) -> None:
        reader = self._library.ZstdDecompressor(options=self._limits)
        try:
            data = reader.decompress(coded.data, self._size)
        except self._library.ZstdError as error:
            raise CodecError(f"the zstd frame is damaged: {error}") from error
        if len(data) != self._size or not reader.eof or reader.unused_data:
            raise CodecError(f"the zstd frame does not hold {self._size} bytes")
        self._restore(np.frombuffer(data, np.uint8), out)

    def _filtered(self, array: np.ndarray) -> np.ndarray:
        """What the filter leaves, as the tensor lies."""
        less_green = array.copy()
        colours = by_picture(less_green, self._pictures)
        colours[..., 0] -= colours[..., 1]
        colours[..., 2] -= colours[..., 1]
        less_above = less_green.copy()
        by_picture(less_above, self._pictures)[:, 1:] -= colours[:, :-1]
        left = less_above.copy()
        by_picture(left, self._pictures)[:, :, 1:] -= by_picture(less_above, self._pictures)[
            :, :, :-1
        ]
        return left

    def _restore(self, left: np.ndarray, out: np.ndarray) -> None:
        there, seen = by_picture(left, self._pictures), by_picture(out, self._pictures)
        np.add.accumulate(there, axis=2, dtype=np.uint8, out=seen)
        np.add.accumulate(seen, axis=1, dtype=np.uint8, out=seen)
        seen[..., 0] += seen[..., 1]
        seen[..., 2] += seen[..., 1]
