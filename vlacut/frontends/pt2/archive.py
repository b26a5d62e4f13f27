"""The archive of a .pt2 file: the members that torch.export.save writes, and no others.

They are stored, not compressed, so nothing in it is larger than the file. JSON is read; the bytes
of tensors are mapped, privately, so that a file that changes later cannot be written through them.
"""

from __future__ import annotations

import io
import json
import mmap
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlacut.errors import ModelError

_MODEL = "models/model.json"
_EXAMPLES = "data/sample_inputs/model.pt"
_WEIGHTS, _CONSTANTS = "data/weights/", "data/constants/"
_TABLE = "model_{}_config.json"
_FIXED = {"archive_format": (b"pt2",), "archive_version": (b"0",), "byteorder": (b"little",)}
_UNREAD = frozenset((".data/version", ".data/serialization_id", "version", "byteorder"))
_TENSOR = re.compile(r"data/(weights/weight|constants/tensor)_\d{1,9}")
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_LOCAL_MAGIC = b"PK\3\4"


@dataclass(frozen=True)
class Archive:
    """What is in a .pt2 file.

    Attributes:
        program: the graph and its signature, as JSON has them.
        weights, constants: tables of tensors, as JSON has them.
        examples: a file that torch.save wrote; empty if there is none.
        tensors: bytes by member, e.g. `data/weights/weight_0`.
    """

    program: Any
    weights: Any
    constants: Any
    examples: bytes
    tensors: Mapping[str, memoryview]


def read_archive(path: Path) -> Archive:
    """Read a .pt2 file.

    Raises ModelError if it is none, is damaged, or holds a member that no program of one model has.
    """
    members = _members(path)
    for name, known in _FIXED.items():
        if bytes(members.get(name, known[0])).strip() not in known:
            raise ModelError(f"{path}: its {name} is not {known[0].decode()}; save it again")
    if _MODEL not in members:
        raise ModelError(
            f"{path}: holds no program of torch 2.9 or later; save it with torch.export.save"
        )
    tables = [
        _json(path, members, f"{folder}{_TABLE.format(kind)}")
        for folder, kind in ((_WEIGHTS, "weights"), (_CONSTANTS, "constants"))
    ]
    tensors = {name: data for name, data in members.items() if _TENSOR.fullmatch(name)}
    examples = bytes(members.get(_EXAMPLES, b""))
    return Archive(_json(path, members, _MODEL), tables[0], tables[1], examples, tensors)


def open_members(data: memoryview, where: str) -> dict[str, memoryview]:
    """The members of a zip file of torch's by name, without the folder that all are in.

    Raises ModelError if it is none, or is damaged: every member must be stored as it is, under a
    name of its own, with the checksum that the directory gives.
    """
    try:
        # A directory alone: members are found by their own headers, not by zipfile.
        with zipfile.ZipFile(_Reader(data)) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"{where}: is no saved torch.export program, or is cut short") from error
    found: dict[str, memoryview] = {}
    roots = {info.filename.partition("/")[0] for info in infos}
    for info in infos:
        name = info.filename.partition("/")[2]
        if not name or name in found or len(roots) > 1:
            raise ModelError(
                f"{where}: its member {info.filename[:80]!r} is not of torch's; "
                f"save it with torch.export.save"
            )
        found[name] = _content(data, info, where)
    return found


def _members(path: Path) -> dict[str, memoryview]:
    try:
        with path.open("rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise ModelError(f"{path}: is no saved torch.export program, or is cut short") from error
    found = open_members(data, str(path))
    known = {_MODEL, _EXAMPLES, *_FIXED, *_UNREAD}
    known |= {_WEIGHTS + _TABLE.format("weights"), _CONSTANTS + _TABLE.format("constants")}
    for name in found:
        if name not in known and not _TENSOR.fullmatch(name):
            raise ModelError(
                f"{path}: holds {name[:80]!r}, which is not of one program of plain tensors and "
                f"may run code when loaded; save the program with torch.export.save"
            )
    return found


def _content(data: memoryview, info: zipfile.ZipInfo, where: str) -> memoryview:
    """The bytes of a member, which its own header and the directory must place alike."""
    start = info.header_offset
    header = data[start : start + _LOCAL_HEADER.size]
    damaged = ModelError(f"{where}: its member {info.filename[:80]!r} is damaged")
    if len(header) < _LOCAL_HEADER.size or info.compress_type != zipfile.ZIP_STORED:
        raise damaged
    magic, _, _, method, _, _, _, _, _, named, extra = _LOCAL_HEADER.unpack(header)
    start += _LOCAL_HEADER.size
    name = bytes(data[start : start + named])
    start += named + extra
    content = data[start : start + info.file_size]
    whole = magic == _LOCAL_MAGIC and method == zipfile.ZIP_STORED
    whole = whole and name == info.orig_filename.encode() and len(content) == info.file_size
    if not whole or zlib.crc32(content) != info.CRC:
        raise damaged
    return content


def _json(path: Path, members: Mapping[str, memoryview], name: str) -> Any:
    try:
        return json.loads(bytes(members[name]))
    except KeyError as error:
        raise ModelError(f"{path}: lacks {name}; save it again") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: {name} is not JSON that torch writes: {error}") from error


class _Reader(io.RawIOBase):
    """A view as a file that zipfile reads, without a copy of it."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = (0, self._at, len(self._data))[whence] + offset
        if at < 0:
            raise ValueError("before the beginning")
        self._at = at
        return at

    def readinto(self, room: Any) -> int:
        found = self._data[self._at : self._at + len(room)]
        room[: len(found)] = found
        self._at += len(found)
        return len(found)
