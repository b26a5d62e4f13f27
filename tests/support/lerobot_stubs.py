"""lerobot's policies without what lerobot imports for its data, cameras and motors.

Its wheel wants another torch and some gigabytes beside; a policy needs none of that to run.
"""

from __future__ import annotations

import importlib
import importlib.abc
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# What lerobot 0.4.4 imports on the way to a policy, beside what is installed.
STUBBED = (
    "accelerate",
    "av",
    "datasets",
    "deepdiff",
    "imageio",
    "lerobot.policies.groot",  # its configuration is no dataclass to transformers 5.23
    "pyarrow",
    "serial",
    "torchvision",
)


class _Class(type):
    """Of classes that have every attribute, and take every argument."""

    def __getattr__(cls, name: str) -> Any:
        return _made(name)


def _made(name: str) -> type:
    if name.startswith("__"):
        raise AttributeError(name)
    return _Class(name, (), {"__init__": lambda self, *_, **__: None})


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        return _made(name)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds stubs."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> Any:
        stubbed = any(f"{name}.".startswith(f"{one}.") for one in STUBBED)
        return ModuleSpec(name, self, is_package=True) if stubbed else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def lerobot(name: str) -> Any:
    """A module of lerobot, imported with stubs, which nothing else sees afterwards."""
    import diffusers  # noqa: F401  (they ask what is installed when they are imported)
    import pandas  # noqa: F401
    import transformers.utils.import_utils as known

    known.is_torchvision_available()
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        return importlib.import_module(f"lerobot.{name}")
    finally:
        sys.meta_path.remove(finder)
        for one in [one for one, found in sys.modules.items() if isinstance(found, _Module)]:
            del sys.modules[one]
