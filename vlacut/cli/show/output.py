"""How commands speak: tables for people, one JSON object for machines."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

from vlacut.errors import InputError

F = TypeVar("F", bound=Callable[..., Any])


_FOLDED, _BETWEEN = 12, 2  # characters: the least of a column of text, and what is between two


def json_option(command: F) -> F:
    """Adds `--json` to a command."""
    option = click.option("--json", "as_json", is_flag=True, help="One JSON object, for machines.")
    return option(command)


def check_place(out: Path) -> None:
    """Raise InputError, before the work, if its file could not be written afterwards."""
    if out.is_dir():
        raise InputError(f"{out}: is a folder; name a file")
    if not out.parent.is_dir():
        raise InputError(f"{out}: there is no folder {out.parent}; make it first")


def print_json(data: dict[str, Any]) -> None:
    """One object on standard output, on one line; null for numbers that JSON has none of."""
    try:
        text = json.dumps(data, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(data), allow_nan=False)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _finite(data: Any) -> Any:
    """The same with None for what is not a number, or infinite."""
    if isinstance(data, dict):
        return {name: _finite(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def say_next(*commands: str) -> None:
    """What one does next, for people: nothing where output goes to a file or a pipe."""
    out = console()
    if out.is_terminal:
        out.print(f"next: {'    and    '.join(commands)}", markup=False, soft_wrap=True)


def to_plan(model: str = "MODEL", edge: str = "jetson-agx-orin") -> str:
    """The command that plans a model, with all that it has to be told."""
    return f"vlacut plan {model} --edge {edge} --cloud a100 --link 10MB/s,20ms"


def console() -> Console:
    """Standard output for people; without a terminal, as wide as the widest table needs."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=max(found.width, 120))


class FittingTable:
    """A table that clips nothing: what is too wide for a terminal goes on below, names first.

    Args:
        title: of the table.
        columns: their names.
        rows: cells, shown as they are: brackets are no markup.
        left: how many of the first columns are text. The first holds names, which stay whole, as
            the numbers in the others do; text between them is folded.
    """

    def __init__(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], left: int
    ) -> None:
        self._title, self._columns, self._rows, self._left = title, columns, rows, left

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        """One table, or as many as it takes."""
        title, rest = self._title, list(range(1, len(self._columns)))
        while True:
            taken = self._fitting(rest, options.max_width)
            yield self._table(title, [0, *taken])
            rest = rest[len(taken) :]
            if not rest:
                return
            title = ""

    def _fitting(self, rest: Sequence[int], room: int) -> list[int]:
        """The next columns that fit beside the names; one at least."""
        taken: list[int] = []
        used = self._width(0)
        for index in rest:
            used += _BETWEEN + self._width(index)
            if taken and used > room:
                break
            taken.append(index)
        return taken

    def _width(self, index: int) -> int:
        """The least that a column takes."""
        cells = [self._columns[index], *(row[index] for row in self._rows)]
        widest = max(map(cell_len, cells))
        return widest if self._is_whole(index) else min(widest, _FOLDED)

    def _is_whole(self, index: int) -> bool:
        return index == 0 or index >= self._left

    def _table(self, title: str, picked: Sequence[int]) -> Table:
        made = Table(
            title=title or None, title_justify="left", title_style="bold", box=None, pad_edge=False
        )
        for index in picked:
            made.add_column(
                Text(self._columns[index]),
                justify="left" if index < self._left else "right",
                overflow="fold",
                no_wrap=self._is_whole(index),
            )
        for row in self._rows:
            made.add_row(*(Text(row[index]) for index in picked))
        return made


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1
) -> FittingTable:
    """A table whose first `left` columns are text and the others numbers."""
    return FittingTable(title, columns, rows, left)


def milliseconds(seconds: float) -> str:
    """Seconds as milliseconds, without unit: three significant digits, from 100 on one decimal."""
    value = seconds * 1e3
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"


def size(nbytes: float) -> str:
    """Bytes in decimal units, with three significant digits, or whole gigabytes from 1000 on."""
    for unit in ("B", "kB", "MB", "GB"):
        shown = float(f"{nbytes:.3g}")
        if abs(shown) < 1000:
            return f"{shown:g} {unit}"
        nbytes /= 1000
    return f"{nbytes * 1000:.0f} GB"


def rate(bytes_per_s: float) -> str:
    """A bandwidth, given in bytes per second, in MB/s with three significant digits."""
    return f"{float(f'{bytes_per_s / 1e6:.3g}'):.10g} MB/s"
