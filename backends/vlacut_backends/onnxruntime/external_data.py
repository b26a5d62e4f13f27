"""Where the weights of an ONNX file lie outside of it, read and moved in the file's own bytes.

A machine that runs parts has no reader of ONNX, so the file is walked as protobuf: fields, each a
number and a kind, then its bytes. What is not on the way to a tensor is copied as it is. Weights
that a session packed for its processor are entries `prepacked_N` beside the place of the weight.
Field numbers: onnx/onnx.proto. Entries: core/framework/tensor_external_data_info.cc of ONNX
Runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from vlacut_backends.onnxruntime.protobuf import field, fields_of, varint, varints

# The fields that lead to tensors, by the message that they are in.
_INSIDE = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
}
_DIMS, _DATA_TYPE, _NAME, _EXTERNAL_DATA = 1, 2, 8, 13
_KEY, _VALUE = 1, 2
_PACKED = "prepacked_"
PACKED_FLOATS = "vlacut.packed_floats"  # a property of a model whose sessions pack float weights


@dataclass(frozen=True)
class Packed:
    """A packed form of a weight: what ONNX Runtime calls it, and [offset, bytes, rest] of each of
    its pieces, in the weight's file.
    """

    key: str
    pieces: tuple[tuple[int, int, str], ...]


@dataclass(frozen=True)
class Stored:
    """A tensor that lies in a file.

    Attributes:
        name: of the weight.
        kind: its element type's number in ONNX.
        shape: its dimensions.
        file: relative to the folder of the model.
        offset, nbytes: its place there.
        packed: forms of it that a session packed.
    """

    name: str
    kind: int
    shape: tuple[int, ...]
    file: str
    offset: int
    nbytes: int
    packed: tuple[Packed, ...] = ()

    def moved(self, file: str, places: Mapping[int, int]) -> Stored:
        """The same in another file, at places by what they were."""
        packed = tuple(
            replace(one, pieces=tuple((places[at], size, rest) for at, size, rest in one.pieces))
            for one in self.packed
        )
        return replace(self, file=file, offset=places[self.offset], packed=packed)

    @property
    def places(self) -> list[tuple[int, int]]:
        """Offset and bytes of the weight, and of each piece of its packed forms."""
        packed = [(at, size) for one in self.packed for at, size, _ in one.pieces]
        return [(self.offset, self.nbytes), *packed]

    @property
    def span(self) -> tuple[int, int]:
        """Where what it has in its file begins and ends."""
        return min(at for at, _ in self.places), max(at + size for at, size in self.places)


def stored_in(model: bytes) -> list[Stored]:
    """The tensors of an ONNX file that lie outside of it. ValueError if it is none."""
    found: list[Stored] = []

    def note(one: Stored) -> Stored:
        found.append(one)
        return one

    move(model, note)
    return found


def move(model: bytes, place: Callable[[Stored], Stored]) -> bytes:
    """The ONNX file whose outside tensors lie where `place` says. ValueError if it is none."""
    return _changed(model, "model", place)


def _changed(message: bytes, kind: str, place: Callable[[Stored], Stored]) -> bytes:
    if kind == "tensor":
        return _moved(message, place)
    made = bytearray()
    for number, payload, raw in fields_of(message):
        inner = _INSIDE[kind].get(number)
        if inner is None or payload is None:
            made += raw
        else:
            made += field(number, _changed(payload, inner, place))
    return bytes(made)


def _moved(tensor: bytes, place: Callable[[Stored], Stored]) -> bytes:
    entries: dict[str, str] = {}
    name, kind, rest = "", 0, bytearray()
    shape: list[int] = []
    for number, payload, raw in fields_of(tensor):
        if number == _EXTERNAL_DATA and payload is not None:
            pair = {key: text for key, text, _ in fields_of(payload)}
            key, text = (pair.get(number) or b"" for number in (_KEY, _VALUE))
            entries[key.decode()] = text.decode()
            continue
        rest += raw
        if number == _NAME and payload is not None:
            name = payload.decode()
        elif number == _DATA_TYPE:
            kind = varint(raw, 1)[0]
        elif number == _DIMS:
            shape += [varint(raw, 1)[0]] if payload is None else varints(payload)
    if "location" not in entries:
        return tensor
    offset, nbytes = (int(entries.get(key, "0")) for key in ("offset", "length"))
    packed = tuple(_packed(text) for key, text in entries.items() if key.startswith(_PACKED))
    new = place(Stored(name, kind, tuple(shape), entries["location"], offset, nbytes, packed))
    rest += b"".join(_entry(key, text) for key, text in _entries(new))
    return bytes(rest)


def _packed(text: str) -> Packed:
    key, *places = text.split("|")
    pieces = (place.split(";", 2) for place in filter(None, places))
    return Packed(key, tuple((int(at), int(size), rest) for at, size, rest in pieces))


def _entries(stored: Stored) -> Iterator[tuple[str, str]]:
    yield "location", stored.file
    yield "offset", str(stored.offset)
    yield "length", str(stored.nbytes)
    for index, one in enumerate(stored.packed):
        pieces = (f"{at};{size};{rest}" for at, size, rest in one.pieces)
        yield f"{_PACKED}{index}", "|".join((one.key, *pieces))


def _entry(key: str, text: str) -> bytes:
    return field(_EXTERNAL_DATA, field(_KEY, key.encode()) + field(_VALUE, text.encode()))
