"""The examples run as they stand, and the notebook is that of the first one."""

from __future__ import annotations

import importlib.util
import json
import runpy
import subprocess
import sys
import threading
from types import ModuleType

import pytest
from support.readme import ROOT

FOLDER = ROOT / "tools" / "examples"
EXAMPLES = sorted(path.name for path in FOLDER.glob("*.py") if path.name != "notebook.py")


def test_there_are_five() -> None:
    assert len(EXAMPLES) == 5
    listed = (ROOT / "tools" / "README.md").read_text()
    assert all(f"`{name}`" in listed for name in EXAMPLES)


def test_the_first_example_runs_as_a_script() -> None:
    run_script("own_module.py")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "own_module.py"])
def test_an_example_runs_as_a_script(name: str) -> None:
    run_script(name)


def run_script(name: str) -> None:
    """In a process of its own, as a user runs it."""
    words = [sys.executable, "-W", "error::DeprecationWarning:vlacut", str(FOLDER / name)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "own_module.py"])
def test_an_example_runs(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: most of what a script costs is to import PyTorch and its exporter."""
    monkeypatch.setattr(sys, "argv", [str(FOLDER / name)])
    before = threading.enumerate()
    runpy.run_path(str(FOLDER / name), run_name="__main__")
    assert capsys.readouterr().out
    left = [one for one in threading.enumerate() if one not in before and not one.daemon]
    assert not left


def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebook", FOLDER / "notebook.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_notebook_is_that_of_the_first_example() -> None:
    made = module()
    written = made.SOURCE.with_suffix(".ipynb").read_text()
    assert written == made.text_of(made.SOURCE.read_text()), "python tools/examples/notebook.py"
    cells = json.loads(written)["cells"]
    code = "\n".join("".join(one["source"]) for one in cells if one["cell_type"] == "code")
    compile(code, "own_module.ipynb", "exec")
    assert {one["cell_type"] for one in cells} == {"code", "markdown"}
    assert cells[0]["source"][0] == "# A policy of your own\n"
