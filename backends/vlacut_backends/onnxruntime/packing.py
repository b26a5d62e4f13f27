"""A part with its weights packed for this processor, as files that every session maps.

ONNX Runtime saves a session's model with what it packed, all in one file (the option
`session.save_external_prepacked_constant_initializers`). Here each weight gets a file of its own,
named by the SHA-256 of what is in it, with its packed forms behind it. So parts that read one
weight share its file, whichever variant, phase or bundle they are of. Weights that nothing packs
stay in the bundle.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnxruntime as ort

from vlacut.errors import BackendError
from vlacut_backends.onnxruntime.external_data import Stored, move, stored_in
from vlacut_backends.onnxruntime.opening import open_session

SUFFIX = ".weights"
_OURS = re.compile(rf"[0-9a-f]{{64}}{re.escape(SUFFIX)}")
_ALIGNED = 64  # bytes, as of memory that it allocates: kAllocAlignment, core/framework/allocator.h
_CHUNK = 1 << 22
# What numpy calls the element types of ONNX, by their numbers, where a byte is a byte to both.
_ARRAYS = {1: "<f4", 2: "u1", 3: "i1", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8", 16: "<u2"}
_PROBES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(bool)": "bool",
}


def own_files(model: bytes) -> dict[str, int]:
    """The files beside a packed model that are of its own, and their bytes."""
    found: dict[str, int] = {}
    for one in stored_in(model):
        if _OURS.fullmatch(one.file):
            found[one.file] = max(found.get(one.file, 0), one.span[1])
    return found


def pack(
    model: bytes, name: str, recipe: Mapping[str, str], root: Path, scratch: Path
) -> tuple[bytes, ort.InferenceSession]:
    """The packed model, whose files are in `scratch`, and the session that packed it.

    Raises BackendError or OSError where it cannot be made.
    """
    saved = scratch / "part.onnx"
    session = open_session(model, name, recipe, root, save=saved)
    before = {one.name: one for one in stored_in(model)}

    def place(one: Stored) -> Stored:
        source = before.get(one.name)
        if not one.packed and source is not None and _alike(one, source) and one.kind in _ARRAYS:
            return source
        return _own_file(one, scratch)

    packed = move(saved.read_bytes(), place)
    for file in {one.file for one in stored_in(saved.read_bytes())}:
        (scratch / file).unlink()
    saved.unlink()
    return packed, session


def _alike(one: Stored, other: Stored) -> bool:
    return (one.kind, one.shape, one.nbytes) == (other.kind, other.shape, other.nbytes)


def _own_file(one: Stored, scratch: Path) -> Stored:
    """Copy a weight and its packed forms to a file that is named by its content.

    Each begins where memory that ONNX Runtime allocates would. It saves them anywhere, but kernels
    look for the parts of what they packed from the next multiple of 64 bytes on.
    """
    digest, passing = hashlib.sha256(), scratch / "passing"
    places: dict[int, int] = {}  # by what they were
    with (scratch / one.file).open("rb") as source, passing.open("wb") as target:
        for start, size in sorted(one.places):
            source.seek(start)
            places[start] = target.tell() + -target.tell() % _ALIGNED
            for piece in chain([bytes(places[start] - target.tell())], _pieces(source, size)):
                digest.update(piece)
                target.write(piece)
    file = digest.hexdigest() + SUFFIX
    passing.replace(scratch / file)
    return one.moved(file, places)


def _pieces(source: BinaryIO, left: int) -> Iterator[bytes]:
    while piece := source.read(min(_CHUNK, left)):
        left -= len(piece)
        yield piece


def open_packed(
    model: bytes, name: str, recipe: Mapping[str, str], root: Path, folder: Path
) -> ort.InferenceSession:
    """A session of a packed model; its own files are in `folder`, other weights in `root`.

    Raises BackendError if it cannot be loaded.
    """
    outside = (one for one in stored_in(model) if not _OURS.fullmatch(one.file))
    given = {one.name: _mapped(one, root) for one in outside}
    return open_session(model, name, recipe, folder, given=given)


def _mapped(one: Stored, root: Path) -> ort.OrtValue:
    """A weight in its file; what is made here keeps the map, and nothing is copied."""
    dtype, file = np.dtype(_ARRAYS[one.kind]), root / one.file
    try:
        array = np.memmap(file, dtype, "r", one.offset, (one.nbytes // dtype.itemsize,))
    except (OSError, ValueError) as error:
        raise BackendError(f"weight {one.name}: {file} cannot be mapped: {error}") from error
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array.reshape(one.shape), one.kind)


def same_numbers(one: ort.InferenceSession, other: ort.InferenceSession) -> bool:
    """Whether two sessions make the same bits of a normal draw; never, if none can be drawn.

    Raises BackendError if they do not run on it.
    """
    inputs = [_probe(item, index) for index, item in enumerate(one.get_inputs())]
    if any(item is None for item in inputs):
        return False
    given = {item.name: array for item, array in zip(one.get_inputs(), inputs, strict=True)}
    try:
        pairs = zip(one.run(None, given), other.run(None, given), strict=True)
    except Exception as error:  # its own exceptions share no base but this
        raise BackendError(f"it does not run on drawn numbers: {error}") from error
    return all(left.tobytes() == right.tobytes() for left, right in pairs)


def _probe(item: Any, seed: int) -> np.ndarray | None:
    """Floats are drawn; whole numbers are 0: they may be places in a table."""
    shape = tuple(item.shape)
    if item.type not in _PROBES or not all(isinstance(size, int) for size in shape):
        return None
    dtype = np.dtype(_PROBES[item.type])
    if dtype.kind != "f":
        return np.zeros(shape, dtype)
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)
