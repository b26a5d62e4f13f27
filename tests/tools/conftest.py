"""The closed loop's modules, for its tests."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import pytest
from support.scripts import TOOLS


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Modules of the bench by name, as `python -m tools.closed_loop...` finds them."""
    monkeypatch.syspath_prepend(str(TOOLS.parent))

    def module(name: str) -> ModuleType:
        return importlib.import_module(f"tools.closed_loop.{name}")

    yield module
    for name in [one for one in sys.modules if one.split(".")[0] == "tools"]:
        del sys.modules[name]
