"""Frozen dataclasses to plain JSON data and back, strictly, by their type hints.

Data that is read is checked: every field is present, none is unknown, every value has its type. A
`kind` entry with the class's name tells the members of a union apart.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from vlacut.errors import BundleError, InputError

T = TypeVar("T")


def to_json(value: Any) -> Any:
    """Plain data: dicts, lists, strings, numbers and booleans."""
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: to_json(getattr(value, field.name)) for field in _fields(value)}
        return {"kind": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    return value


def from_json(kind: type[T], data: Any, where: str) -> T:
    """An instance of `kind` from plain data; BundleError saying where it does not fit."""
    made: T = _read(kind, data, where)
    return made


def _read(kind: Any, data: Any, where: str) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        kinds = tuple(one for one in args if one is not types.NoneType)
        if len(kinds) < len(args) and data is None:
            return None
        return _read(kinds[0], data, where) if len(kinds) == 1 else _read_union(kinds, data, where)
    if origin is tuple:
        _expect(isinstance(data, list), where, "a list", data)
        return tuple(_read(args[0], item, f"{where}[{index}]") for index, item in enumerate(data))
    if origin is not None and issubclass(origin, Mapping):
        _expect(isinstance(data, dict), where, "an object", data)
        return {key: _read(args[1], item, f"{where}.{key}") for key, item in data.items()}
    if issubclass(kind, Enum):
        known = [item.value for item in kind]
        _expect(isinstance(data, str) and data in known, where, f"one of {', '.join(known)}", data)
        return kind(data)
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, data, where)
    return _read_scalar(kind, data, where)


def _read_union(kinds: tuple[Any, ...], data: Any, where: str) -> Any:
    named = {kind.__name__: kind for kind in kinds}
    name = data.get("kind") if isinstance(data, dict) else None
    _expect(
        isinstance(name, str) and name in named,
        where,
        f"an object of kind {', '.join(named)}",
        name,
    )
    return _read_dataclass(named[str(name)], data, where)


def _read_dataclass(kind: Any, data: Any, where: str) -> Any:
    _expect(isinstance(data, dict), where, f"an object ({kind.__name__})", data)
    _expect(data.get("kind") == kind.__name__, where, f"kind {kind.__name__}", data.get("kind"))
    hints = _hints(kind)
    names = [field.name for field in _fields(kind)]
    odd = sorted(set(names) ^ (set(data) - {"kind"}))
    if odd:
        raise BundleError(f"{where}: missing or unknown entry {', '.join(odd)}")
    values = {name: _read(hints[name], data[name], f"{where}.{name}") for name in names}
    try:
        return kind(**values)
    except (ValueError, InputError) as error:
        raise BundleError(f"{where}: {error}") from error


def _read_scalar(kind: Any, data: Any, where: str) -> Any:
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    _expect(type(data) is kind, where, kind.__name__, data)
    return data


_hints = cache(get_type_hints)  # it evaluates a class's annotations anew each time


def _fields(kind: Any) -> tuple[dataclasses.Field[Any], ...]:
    return tuple(field for field in dataclasses.fields(kind) if field.init)


def _expect(true: bool, where: str, what: str, found: Any) -> None:
    if not true:
        raise BundleError(f"{where}: must be {what}, is {str(found)[:60]!r}")
