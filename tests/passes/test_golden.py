"""What passes print of small programs: see `tests/golden`. `pytest --bless` writes it anew.

A golden text is a command, the files that it reads, and what it prints. An ONNX file stands in
ONNX's own text, under a line that names its weights and their shapes; their numbers are from a
seed.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from support import onnx_text
from support.commands import Vlacut

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = sorted(GOLDEN.glob("*.txt"))
_SECTION = re.compile(r"^== (\S+)\n", re.MULTILINE)
_PRINTED = "printed"


def test_there_is_one_of_every_pass_that_decides() -> None:
    assert {path.stem for path in FILES} >= {
        *("simplify", "annotate-structure", "annotate-cost"),
        *("partition", "alternatives", "split"),
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_a_pipeline_prints(
    path: Path,
    vlacut: Vlacut,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pytestconfig: pytest.Config,
) -> None:
    head, *rest = _SECTION.split(path.read_text())
    files = dict(zip(rest[::2], rest[1::2], strict=True))
    golden = files.pop(_PRINTED)
    monkeypatch.chdir(tmp_path)
    for name, text in files.items():
        _write(Path(name), text)
    command = shlex.split(head.removeprefix("$ ").replace("\\\n", " "))
    assert command[:2] == ["vlacut", "opt"]
    status, printed, err = vlacut(*command[1:])
    assert status == 0, err
    if pytestconfig.getoption("--bless"):
        path.write_text(path.read_text().removesuffix(golden) + printed)
        return
    assert printed == golden, f"pytest --bless {Path(__file__).name} writes {path.name} anew"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix != ".onnx":
        path.write_text(text)
        return
    line, _, body = text.partition("\n")
    assert line.startswith("weights ")
    numbers = np.random.default_rng(0)
    shapes = dict(item.split(":") for item in line.split()[1:])
    weights = {
        name: numbers.standard_normal([*map(int, shape.split("x"))], np.float32)
        for name, shape in shapes.items()
    }
    onnx_text.write(path, body, weights)
