"""A table of the report: rows with a cell each, and which of them are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vlacut.control.ways.playing import PLAYINGS

from .cells import Cell

PLAYED = 8  # commands of a chunk that a loop plays which waits for the next one


@dataclass(frozen=True)
class Table:
    """Rows with a cell each.

    Attributes:
        name, title: of it.
        rows: label and cell.
        compared: pairs of labels, the second against the first.
        notes: printed below.
    """

    name: str
    title: str
    rows: Sequence[tuple[str, Cell]]
    compared: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()

    @property
    def cells(self) -> list[Cell]:
        """Of all rows."""
        return [cell for _, cell in self.rows]

    def only(self, begins: Sequence[str] | None) -> Table:
        """The rows whose labels begin with one of these, and what is compared of them."""
        if not begins:
            return self
        rows = [(label, cell) for label, cell in self.rows if label.startswith(tuple(begins))]
        known = {label for label, _ in rows}
        compared = [pair for pair in self.compared if known.issuperset(pair)]
        return replace(self, rows=rows, compared=compared)

    def cell(self, label: str) -> Cell:
        """Of a row."""
        return dict(self.rows)[label]


def executors(cell: Cell, rtc: str = "") -> dict[str, Cell]:
    """The same cell with every way to play; `rtc` is the policy that continues the chunk."""
    late = replace(cell, controller="when-empty", horizon=PLAYED)
    made = {"sync": replace(late, executor="sync", playing="naive")}
    for playing in PLAYINGS:
        made[playing] = replace(cell, playing=playing)
    if rtc:
        made["rtc"] = replace(cell, policy=rtc, executor="rtc", playing="aligned")
    return made
