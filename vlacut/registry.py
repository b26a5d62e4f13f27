"""Plug-ins by entry point; in-tree ones have no privilege.

| group                    | what it names                                             |
|--------------------------|-----------------------------------------------------------|
| `vlacut.passes`          | a `Pass` class                                            |
| `vlacut.builders`        | a class that is a `Builder`                               |
| `vlacut.executors`       | a class that is an `Executor`                             |
| `vlacut.checkers`        | a class that is a `Checker`                               |
| `vlacut.doctors`         | a class that is a `Doctor`                                |
| `vlacut.engine_builders` | an `EngineBuilder`, see `vlacut.bundle.engine_records`           |
| `vlacut.models`          | a `Model` of the zoo, see `vlacut.ir.program`             |
| `vlacut.lerobot`         | a `Builder`, see `vlacut.frontends.lerobot.program`       |
| `vlacut.openpi`          | a `Builder`, see `vlacut.frontends.openpi.program`        |
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from vlacut.errors import InputError, suggestion

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

# What one of each group is called.
GROUPS = {
    "passes": "pass",
    "builders": "builder",
    "executors": "executor",
    "checkers": "checker",
    "doctors": "doctor",
    "engine_builders": "engine builder",
    "models": "model",
    "lerobot": "LeRobot policy",
    "openpi": "model of openpi's",
}


def names(group: str) -> tuple[str, ...]:
    """Names in a group, sorted."""
    return tuple(sorted({entry.name for entry in _entries(group)}))


def load(group: str, name: str) -> Any:
    """The object a name stands for; InputError with the nearest names if there is none."""
    for entry in _entries(group):
        if entry.name == name:
            return entry.load()
    raise InputError(f"no {GROUPS[group]} {name!r}; {suggestion(name, names(group))}")


def module_of(group: str, name: str) -> str:
    """The module of what a name stands for, not imported; raises as `load` does."""
    for entry in _entries(group):
        if entry.name == name:
            return entry.module
    raise InputError(f"no {GROUPS[group]} {name!r}; {suggestion(name, names(group))}")


@cache  # each look-up reads the files of every installed distribution: 80 ms of 90 of them
def _entries(group: str) -> tuple[EntryPoint, ...]:
    from importlib.metadata import entry_points  # 50 ms, which `--help` needs not

    return tuple(entry_points(group=f"vlacut.{group}"))
