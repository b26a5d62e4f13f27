"""Where the weights lie that an ONNX file holds inside: so they are mapped, and never copied.

The file is a message of protobuf: fields, each a number and a kind, then a length and that many
bytes. What is walked is model.graph.initializer, for name and raw_data; the rest is stepped over.
Field numbers: onnx/onnx.proto; the wire: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx_ir as ir

_GRAPH, _INITIALIZER, _NAME, _RAW_DATA = 7, 5, 8, 9
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5  # kinds of fields
_LONGEST_VARINT = 10
_SMALL = 1 << 16  # up to it, a map of its own costs more than the copy

_Span = tuple[int, int]  # where bytes begin and end


def map_weights(model: ir.Model, file: Path) -> None:
    """Let weights that a file holds refer to their place in it, in place.

    What is small, or not stored as raw bytes, stays as it was read.
    """
    large = {
        name: value
        for name, value in model.graph.initializers.items()
        if isinstance(value.const_value, ir.TensorProtoTensor) and value.const_value.nbytes > _SMALL
    }
    if not large:
        return
    spans = weight_spans(file)
    for name, value in large.items():
        tensor = value.const_value
        start, end = spans.get(name, (0, 0))
        if tensor is None or end - start != tensor.nbytes:
            continue
        value.const_value = ir.ExternalTensor(
            file.name,
            start,
            tensor.nbytes,
            tensor.dtype,
            shape=value.shape or ir.Shape([]),
            name=name,
            base_dir=file.parent,
        )


def weight_spans(file: Path) -> dict[str, _Span]:
    """Begin and end of the raw bytes of the graph's initializers, by name.

    Empty where the file is none that a plain writer of protobuf makes; names that are there twice
    are left out.
    """
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            (graph,) = _parts(data, (0, len(data)), _GRAPH)
            tensors = [_tensor(data, span) for span in _parts(data, graph, _INITIALIZER)]
        except ValueError:
            return {}
    count = Counter(name for name, _ in tensors)
    return {name: span for name, span in tensors if span[1] and count[name] == 1}


def _tensor(data: mmap.mmap, span: _Span) -> tuple[str, _Span]:
    """Name of a TensorProto, and where its raw bytes are; (0, 0) if it has none."""
    name, raw = "", (0, 0)
    for number, inner in _fields(data, span):
        if number == _NAME:
            name = data[slice(*inner)].decode()
        elif number == _RAW_DATA:
            raw = inner
    return name, raw


def _parts(data: mmap.mmap, span: _Span, wanted: int) -> list[_Span]:
    return [inner for number, inner in _fields(data, span) if number == wanted]


def _fields(data: mmap.mmap, span: _Span) -> Iterator[tuple[int, _Span]]:
    """The fields of bytes in a message, by number; ValueError if it is none."""
    at, end = span
    while at < end:
        tag, at = _varint(data, at, end)
        number, kind = tag >> 3, tag & 7
        if kind == _BYTES:
            length, at = _varint(data, at, end)
            if length > end - at:
                raise ValueError("a field is longer than its message")
            yield number, (at, at + length)
            at += length
        elif kind == _VARINT:
            _, at = _varint(data, at, end)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            at += 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"a field of kind {kind}")


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """A number, seven bits a byte, and where the next byte is."""
    value = 0
    for place in range(_LONGEST_VARINT):
        if at + place >= end:
            break
        byte = data[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError("a number has no end")
