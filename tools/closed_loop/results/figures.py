"""What a row of the report says, and a file of all that were run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vlacut.bundle.staging import write_file

from ..simulation.arm import RATE
from .outcomes import Outcome, interval
from .rows import Table
from .store import Store

_HEADS = ("success", "95 % interval", "time s", "age ms", "jerk", "asked", "cloud s", "MB", "exact")
HEADS = ("", *_HEADS)


@dataclass(frozen=True)
class Figures:
    """Means over a row's episodes; the time is of those that succeeded.

    Attributes:
        episodes, won: how many, and how many of them succeeded.
        low, high: of the share that succeeds, 95 %.
        seconds: to success; none if there was none.
        age_ms, jerk, asked, cloud_s, exact: see `Outcome`.
        megabytes: that crossed the link.
        busy_ms: of inferences, a control step.
        free: share of the control steps that began no inference.
    """

    episodes: int
    won: int
    low: float
    high: float
    seconds: float | None
    age_ms: float
    jerk: float
    asked: float
    cloud_s: float
    megabytes: float
    exact: float
    busy_ms: float
    free: float

    def cells(self) -> tuple[str, ...]:
        """In words, as `HEADS` has them."""
        return (
            f"{self.won}/{self.episodes}",
            f"{self.low:.0%} to {self.high:.0%}",
            "-" if self.seconds is None else f"{self.seconds:.2f}",
            f"{self.age_ms:.0f}",
            f"{self.jerk:.0f}",
            f"{self.asked:.1f}",
            f"{self.cloud_s:.2f}",
            f"{self.megabytes:.2f}",
            f"{self.exact:.0%}",
        )


def figures_of(outcomes: Sequence[Outcome]) -> Figures | None:
    """Of a row; none if no episode of it was run."""
    if not outcomes:
        return None
    won = [one for one in outcomes if one.success]

    def mean(figure: Callable[[Outcome], float], of: Sequence[Outcome] = outcomes) -> float:
        return sum(map(figure, of)) / len(of)

    ticks = RATE * mean(lambda one: one.seconds)
    return Figures(
        len(outcomes),
        len(won),
        *interval(len(won), len(outcomes)),
        mean(lambda one: one.seconds, won) if won else None,
        1e3 * mean(lambda one: one.age_s),
        mean(lambda one: one.jerk),
        mean(lambda one: one.asked),
        mean(lambda one: one.cloud_s),
        mean(lambda one: one.nbytes) / 1e6,
        mean(lambda one: one.exact),
        1e3 * mean(lambda one: one.asked * one.step_s) / ticks,
        1 - mean(lambda one: one.asked) / ticks,
    )


def cells_of(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """A row's cells, in words."""
    made = figures_of(outcomes)
    return made.cells() if made else ("-",) * len(_HEADS)


def write_figures(path: Path, tables: Sequence[Table], store: Store) -> None:
    """Add the tables' rows to a file of figures: `{table: {title, rows: {label: figures}}}`.

    They are of all episodes of a row that were ever run. Other rows of the file stay.
    """
    known = json.loads(path.read_text()) if path.exists() else {}
    for one in tables:
        found = {label: figures_of(store.all_of(cell)) for label, cell in one.rows}
        rows = {label: _short(made) for label, made in found.items() if made}
        if rows:
            before = known.get(one.name, {}).get("rows", {})
            known[one.name] = {"title": one.title, "rows": {**before, **rows}}
    write_file(path, json.dumps(known, indent=1) + "\n")


def _short(made: Figures) -> dict[str, float | None]:
    return {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in asdict(made).items()
    }
