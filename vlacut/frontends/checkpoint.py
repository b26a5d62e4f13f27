"""Weights of a program from safetensors files, by name, without reading a byte of them.

A file of the format is an 8-byte little-endian length, that many bytes of JSON, and the tensors;
the JSON says each one's type, shape and place. Source: the format's description in the safetensors
project. A weight of the program becomes a reference to its place in the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from vlacut.errors import ModelError
from vlacut.ir.graphs import dtype_name, value_spec
from vlacut.ir.program import Program
from vlacut.tensor import TensorSpec

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_SHOWN = 3
_DTYPES = {
    "F64": ir.DataType.DOUBLE,
    "F32": ir.DataType.FLOAT,
    "F16": ir.DataType.FLOAT16,
    "BF16": ir.DataType.BFLOAT16,
    "F8_E4M3": ir.DataType.FLOAT8E4M3FN,
    "F8_E5M2": ir.DataType.FLOAT8E5M2,
    "I64": ir.DataType.INT64,
    "I32": ir.DataType.INT32,
    "I16": ir.DataType.INT16,
    "I8": ir.DataType.INT8,
    "U8": ir.DataType.UINT8,
    "BOOL": ir.DataType.BOOL,
}


@dataclass(frozen=True)
class Stored:
    """A tensor in a file.

    Attributes:
        file: a safetensors file.
        start: where its bytes begin, counted from that of the file.
        nbytes: how many there are, row-major and without gaps.
        dtype: of its elements.
        shape: of the tensor.
    """

    file: Path
    start: int
    nbytes: int
    dtype: ir.DataType
    shape: tuple[int, ...]

    def tensor(self, name: str) -> ir.ExternalTensor:
        """A reference to it: its bytes are read when its content is asked for."""
        place = (self.file.name, self.start, self.nbytes, self.dtype)
        shape = ir.Shape(self.shape)
        return ir.ExternalTensor(*place, shape=shape, name=name, base_dir=self.file.parent)


def open_checkpoint(paths: Sequence[Path]) -> dict[str, Stored]:
    """Every tensor of a checkpoint, by name.

    Args:
        paths: safetensors files, or folders with `model.safetensors` or a sharded index.

    Raises ModelError naming a file that is not of the format.
    """
    return read_files(_files(paths))


def load_weights(program: Program, stored: Mapping[str, Stored]) -> str:
    """Give every weight of a program that has a shape alone its content.

    Args:
        program: changed in place.
        stored: the checkpoint, as opened.

    Returns a line on the tensors that the program does not read, empty if there are none. Raises
    ModelError listing what is missing and what has another type or shape.
    """
    missing, unlike, used = [], [], set[str]()
    for phase in program.phases:
        for name, value in phase.model.graph.initializers.items():
            if value.const_value is not None:
                continue
            if name not in stored:
                missing.append(name)
                continue
            used.add(name)
            spec = value_spec(value)
            found = TensorSpec(name, dtype_name(stored[name].dtype), stored[name].shape)
            if found != spec:
                unlike.append(f"{found}, must be {spec.dtype}{list(spec.shape)}")
            value.const_value = stored[name].tensor(name)
    unexpected = sorted(set(stored) - used)
    if missing or unlike:
        raise ModelError(
            f"the checkpoint does not fit {program.name}: "
            + "; ".join(
                f"{len(set(names))} {what}: {_few(names)}"
                for what, names in (
                    ("missing", missing),
                    ("misshapen", unlike),
                    ("unexpected", unexpected),
                )
                if names
            )
        )
    return f"{len(unexpected)} weights are not used: {_few(unexpected)}" if unexpected else ""


def _few(names: Iterable[str]) -> str:
    distinct = sorted(set(names))
    return ", ".join(distinct[:_SHOWN]) + (", ..." if len(distinct) > _SHOWN else "")


def _files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += _folder_files(path)
        elif path.is_file():
            files.append(path)
        else:
            raise ModelError(f"{path}: no such file or folder")
    return files


def _folder_files(folder: Path) -> list[Path]:
    index = folder / _INDEX
    if not index.is_file():
        if (folder / _SINGLE).is_file():
            return [folder / _SINGLE]
        raise ModelError(f"{folder}: has neither {_SINGLE} nor {_INDEX}")
    try:
        shards = json.loads(index.read_bytes())["weight_map"].values()
        names = sorted({Path(name) for name in shards})
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ModelError(f"{index}: is no index of shards: {error}") from error
    if not names:
        raise ModelError(f"{index}: names no shard")
    if any(len(name.parts) != 1 or name.parts == ("..",) for name in names):
        raise ModelError(f"{index}: names a shard outside of its folder")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ModelError(
            f"{index}: {len(missing)} of {len(names)} shards are missing: {missing[0]}"
        )
    return [folder / name for name in names]


def read_files(files: Sequence[Path]) -> dict[str, Stored]:
    """Every tensor of some safetensors files, by name.

    Raises ModelError naming a file that is not of the format, or a tensor that is in two.
    """
    stored: dict[str, Stored] = {}
    for file in files:
        for name, item in _read(file).items():
            if name in stored:
                raise ModelError(f"{file}: {name} is in {stored[name].file} too")
            stored[name] = item
    return stored


def _read(file: Path) -> dict[str, Stored]:
    if file.suffix != ".safetensors":
        raise ModelError(f"{file}: is no .safetensors; convert it, for other formats can run code")
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if not 0 < length <= min(_MAX_HEADER_BYTES, file.stat().st_size - 8):
                raise ModelError(f"{file}: is truncated, or no safetensors file")
            header = json.loads(opened.read(length))
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file}: cannot be read as safetensors: {error}") from error
    if not isinstance(header, dict):
        raise ModelError(f"{file}: its header is no object")
    header.pop("__metadata__", None)
    return {name: _stored(file, name, item, 8 + length) for name, item in header.items()}


def _stored(file: Path, name: str, item: Any, base: int) -> Stored:
    try:
        dtype, shape = _DTYPES[item["dtype"]], _integers(item["shape"])
        start, end = _integers(item["data_offsets"])
        spec = TensorSpec(name, dtype_name(dtype), shape)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{file}: entry {name} is not of the format: {error}") from error
    if start < 0 or end - start != spec.nbytes or base + end > file.stat().st_size:
        raise ModelError(f"{file}: {name} should be {spec.nbytes} bytes at {start}; truncated?")
    return Stored(file, base + start, spec.nbytes, dtype, shape)


def _integers(items: Any) -> tuple[int, ...]:
    """A list of integers as JSON has them; TypeError for anything that only becomes one."""
    if not isinstance(items, list) or any(type(item) is not int for item in items):
        raise TypeError(f"{str(items)[:60]} is no list of integers")
    return tuple(items)
