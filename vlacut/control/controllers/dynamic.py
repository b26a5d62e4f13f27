"""DyQ-VLA's rule (arXiv 2603.07904, algorithm 1): the precision that the movement asks for.

The sensitivity of every tick asks for a precision by the table. A more exact one is taken at once.
A less exact one is taken after `patience` ticks in a row that ask for the same, each being counted
with the most exact that was asked for since the count began. In ticks of the loop a precision is
what the next inference runs in; among the variants of that precision it is the one that is
predicted to be the quickest, so the cut follows the network. Where the robot turns sensitive while
it plays a chunk of a less exact precision, a new chunk is asked for at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vlacut.control.precision_table import PrecisionTable, read_precision_table
from vlacut.control.report import Route
from vlacut.control.signals.fineness import SensitivityMeter
from vlacut.control.situation import Decision, Keep, Request, Situation
from vlacut.errors import InputError

PATIENCE = 5  # the paper's K


class Steady:
    """The level in force; 0 is the most exact. DyQ-VLA's algorithm 1."""

    def __init__(self, patience: int = PATIENCE) -> None:
        self._patience = patience
        self.reset()

    def reset(self) -> None:
        """Begin with the program as it is."""
        self.level = 0
        self._count, self._most_exact = 0, 0

    def take(self, asked: int) -> int:
        """The level after a tick that asks for one."""
        if asked <= self.level:
            self.level, self._count, self._most_exact = asked, 0, asked
            return self.level
        most_exact = min(asked, self._most_exact) if self._count else asked
        self._count = (self._count if most_exact == self._most_exact else 0) + 1
        self._most_exact = most_exact
        if self._count >= self._patience:
            self.level, self._count = most_exact, 0
        return self.level


class Dynamic:
    """See the module's docstring.

    Args:
        routes: of the plan's variants.
        table: of `vlacut calibrate-precision`, or its file.
        patience: ticks before a less exact precision is taken.

    Raises InputError where the table is not of these variants, BundleError where it is none.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        table: PrecisionTable | str | Path,
        patience: int = PATIENCE,
    ) -> None:
        if not isinstance(table, PrecisionTable):
            table = read_precision_table(Path(table))
        if patience < 1:
            raise InputError(f"patience of {patience} ticks: it must be at least 1")
        own = [route.precision if route.rounded else "" for route in routes]
        table.check(own)
        self._variants = [
            [place for place, name in enumerate(own) if name == wanted]
            for wanted in table.precisions
        ]
        self._table = table
        self._steady = Steady(patience)
        self._meter: SensitivityMeter | None = None
        self._requested = 0

    def decide(self, situation: Situation) -> Decision:
        """See `Controller`."""
        level, said = self._level(situation)
        if situation.buffer.in_flight_s is not None and level >= self._requested:
            return Keep(said)
        if level < self._requested or situation.buffer.runs_out:
            preempt, self._requested = level < self._requested, level
            times = situation.times
            chosen = min(self._variants[level], key=times.__getitem__)
            return Request(chosen, preempt=preempt, why=said)
        return Keep(said)

    def _level(self, situation: Situation) -> tuple[int, str]:
        """The level in force, and what is said of it."""
        if not situation.executed:
            return self._steady.level, "not moved yet"
        newest = situation.executed[-1]
        if self._meter is None:
            self._table.check(self._table.precisions, newest.size)
            self._meter = SensitivityMeter(self._table.units, situation.tick_s)
        sensitivity = self._meter.take(newest)
        level = self._steady.take(self._table.level(sensitivity))
        name = self._table.precisions[level] or "as it is"
        return level, f"sensitivity {sensitivity:.2f}: {name}"

    def reset(self) -> None:
        """See `Controller`."""
        self._steady.reset()
        self._requested = 0
        if self._meter is not None:
            self._meter.reset()
