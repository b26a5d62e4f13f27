"""What JSON objects have in common: the paths of their values, and the types of those.

    {"link": {"rtt_s": 0.02}, "parts": [{"name": "a"}]}      link.rtt_s      number
                                                             parts[].name    text

Objects whose keys are names (of parts, of passes) are maps: their values stand under `NAME{}`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Shape = dict[str, set[str]]
_TYPES = {bool: "boolean", int: "number", float: "number", str: "text", type(None): "null"}


def shape_of(objects: Iterable[Any], maps: frozenset[str]) -> dict[str, str]:
    """Types by path, in the order in which paths are met; `maps` are the names of maps."""
    found: Shape = {}
    for data in objects:
        _walk(data, "", maps, found)
    return {
        path: " or ".join(sorted(types)) or "list"
        for path, types in found.items()
        if _told(path, found)
    }


def _told(path: str, found: Shape) -> bool:
    """Whether a path says what longer ones do not: a list, if nothing was met in it."""
    return bool(found[path]) or not any(other != path and other.startswith(path) for other in found)


def _walk(data: Any, path: str, maps: frozenset[str], found: Shape) -> None:
    if isinstance(data, dict):
        name = path.rpartition(".")[2]
        for key, value in data.items():
            step = f"{path}{{}}" if name in maps else f"{path}.{key}".lstrip(".")
            _walk(value, step, maps, found)
    elif isinstance(data, list):
        found.setdefault(f"{path}[]", set())
        for item in data:
            _walk(item, f"{path}[]", maps, found)
    else:
        found.setdefault(path, set()).add(_TYPES[type(data)])
