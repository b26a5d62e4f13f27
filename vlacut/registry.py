"""Plug-ins by entry point; in-tree ones have no privilege.

| group              | what it names                                             |
|--------------------|-----------------------------------------------------------|
| `vlacut.passes`    | a `Pass` class                                            |
| `vlacut.builders`  | a class that is a `Builder`                               |
| `vlacut.executors` | a class that is an `Executor`                             |
| `vlacut.models`    | a function `(preset: str) -> Program` with a `presets` attribute |
"""

from __future__ import annotations

import difflib
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from vlacut.errors import InputError

GROUPS = ("passes", "builders", "executors", "models")


def names(group: str) -> tuple[str, ...]:
    """Names in a group, sorted."""
    return tuple(sorted({entry.name for entry in _entries(group)}))


def load(group: str, name: str) -> Any:
    """The object a name stands for; InputError with the nearest names if there is none."""
    for entry in _entries(group):
        if entry.name == name:
            return entry.load()
    known = names(group)
    near = difflib.get_close_matches(name, known, n=3) or known
    raise InputError(f"no {group[:-1]} {name!r}; did you mean {', '.join(near) or 'none known'}?")


def _entries(group: str) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=f"vlacut.{group}"))
