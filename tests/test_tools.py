"""The scripts of `tools/` keep up with what they use."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from vlacut.pricing.cost_graph import Side

TOOLS = Path(__file__).parent.parent / "tools"
SCRIPTS = sorted(path.name for path in TOOLS.glob("*.py"))
# What scripts may need and the checks do not install.
OPTIONAL = {"atheris", "sklearn"}


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A script as a module; scripts find each other as when they are run by path."""
    monkeypatch.syspath_prepend(str(TOOLS))
    spec = importlib.util.spec_from_file_location(Path(name).stem, TOOLS / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_can_be_imported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        module = load(name, monkeypatch)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"needs {error.name}")
    assert module.__doc__


def test_the_plan_of_the_benchmarks_crosses_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    echo = load("echo.py", monkeypatch)
    plan = echo.echo_plan(100, 10)
    assert plan.crosses == (True,)
    assert [part.side for part in plan.parts] == [Side.EDGE, Side.CLOUD, Side.EDGE]
