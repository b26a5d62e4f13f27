"""The scripts of `tools/` keep up with what they use."""

from __future__ import annotations

import pytest
from support.scripts import TOOLS, load

from vlacut.hardware import Side

SCRIPTS = sorted(path.name for path in TOOLS.glob("*.py"))
FLEET = sorted(
    path.name for path in (TOOLS / "fleet").glob("*.py") if "__main__" in path.read_text()
)
# What scripts may need and the checks do not install.
OPTIONAL = {"atheris", "sklearn"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_can_be_imported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        module = load(name, monkeypatch)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"needs {error.name}")
    assert module.__doc__


@pytest.mark.parametrize("name", FLEET)
def test_a_script_of_the_fleet_can_be_imported_and_is_listed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(TOOLS / "fleet"))
    assert load(f"fleet/{name}", monkeypatch).__doc__
    assert f"`fleet/{name}`" in (TOOLS / "README.md").read_text()


def test_the_plan_of_the_benchmarks_crosses_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    echo = load("echo.py", monkeypatch)
    plan = echo.echo_plan(100, 10)
    assert plan.crosses == (True,)
    assert [part.side for part in plan.parts] == [Side.EDGE, Side.CLOUD, Side.EDGE]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_listed_with_its_question(name: str) -> None:
    assert f"`{name}" in (TOOLS / "README.md").read_text()
