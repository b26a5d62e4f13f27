"""Plug-ins by entry point; in-tree ones have no privilege.

| group                    | what it names                                             |
|--------------------------|-----------------------------------------------------------|
| `vlacut.passes`          | a `Pass` class                                            |
| `vlacut.builders`        | a class that is a `Builder`                               |
| `vlacut.executors`       | a class that is an `Executor`                             |
| `vlacut.checkers`        | a class that is a `Checker`                               |
| `vlacut.engine_builders` | a class that is an `EngineBuilder`, see `vlacut.bundle.engines`  |
| `vlacut.models`          | what makes a Program of a preset: see `Model`             |
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Protocol

from vlacut.errors import InputError
from vlacut.suggestion import suggestion

if TYPE_CHECKING:
    from vlacut.ir.program import Outline, Program

# What one of each group is called.
GROUPS = {
    "passes": "pass",
    "builders": "builder",
    "executors": "executor",
    "checkers": "checker",
    "engine_builders": "engine builder",
    "models": "model",
}


class Model(Protocol):
    """A model of the zoo; the first line of its docstring says what it is.

    Attributes:
        presets: names of its presets; `full` is the one without a name.
    """

    presets: tuple[str, ...]

    def __call__(self, preset: str) -> Program:
        """The traced program of a preset."""

    def outline(self, preset: str) -> Outline:
        """The size of a preset, quickly."""


def names(group: str) -> tuple[str, ...]:
    """Names in a group, sorted."""
    return tuple(sorted({entry.name for entry in _entries(group)}))


def load(group: str, name: str) -> Any:
    """The object a name stands for; InputError with the nearest names if there is none."""
    for entry in _entries(group):
        if entry.name == name:
            return entry.load()
    raise InputError(f"no {GROUPS[group]} {name!r}; {suggestion(name, names(group))}")


def _entries(group: str) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=f"vlacut.{group}"))
