"""Tables in a narrow terminal: nothing is clipped, and brackets are no markup."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from vlacut.backend import Checked
from vlacut.cli.building.check import _row
from vlacut.cli.show.output import table
from vlacut.compiler.checking import CheckedPart
from vlacut.hardware import Side
from vlacut.plans.plan import Part

NAMES = [f"strategy-with-a-long-name-{index}" for index in range(3)]
COLUMNS = ("strategy", "what", *(f"column {index}" for index in range(9)))


def shown(width: int) -> str:
    rows = [(name, "many words that may be folded", *["1234 MB"] * 9) for name in NAMES]
    out = Console(width=width, file=io.StringIO(), force_terminal=False)
    out.print(table("Title", COLUMNS, rows, 2))
    return out.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_no_name_and_no_number_is_clipped(width: int) -> None:
    text = shown(width)
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    assert "…" not in text
    for name in NAMES:
        assert text.count(name) == (1 if width == 200 else text.count(NAMES[0]))
    assert text.count("1234 MB") == 27
    for column in COLUMNS[2:]:
        assert text.count(column) == 1
    assert text.count("Title") == 1


def test_brackets_are_shown() -> None:
    out = Console(width=80, file=io.StringIO())
    checked = Checked("p.0", (), why_not="pip install 'vlacut[rtx]' for a parser")
    part = Part(
        name="p.0",
        phase="p",
        side=Side.EDGE,
        inputs=(),
        outputs=(),
        weights=(),
        weight_bytes=0,
        seconds=0.0,
        saves_s=0.0,
        label="block[0]",
        digest="",
    )
    out.print(
        table(
            "Checked",
            ("part", "side", "device", "result", "s", "memory", "weights"),
            [_row(CheckedPart(part, "a100", checked))],
            left=4,
        )
    )
    text = "".join(out.file.getvalue().split())  # type: ignore[attr-defined]
    assert "vlacut[rtx]" in text.replace("\n", "")
