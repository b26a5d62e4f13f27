"""Outcomes of cells in a file, so that a report that was stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .cells import HELD_OUT, Cell
from .outcomes import Outcome


@dataclass
class Store:
    """Outcomes in a file of lines.

    Args:
        path: of it.
    """

    path: Path
    _known: dict[str, dict[int, Outcome]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                said = json.loads(line)
                self._take(said.pop("cell"), Outcome(**said))

    def _take(self, key: str, outcome: Outcome) -> None:
        self._known.setdefault(key, {})[outcome.seed] = outcome

    def add(self, cell: Cell, outcome: Outcome) -> None:
        """Keep one."""
        self._take(cell.key, outcome)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps({"cell": cell.key, **outcome.as_json()}) + "\n")

    def missing(self, cell: Cell, count: int) -> list[int]:
        """Seeds that were not run yet, of so many."""
        known = self._known.get(cell.key, {})
        return [seed for seed in range(HELD_OUT, HELD_OUT + count) if seed not in known]

    def of(self, cell: Cell, count: int) -> Sequence[Outcome]:
        """Those of the first so many that were run, in the order of seeds."""
        known = self._known.get(cell.key, {})
        return [known[seed] for seed in range(HELD_OUT, HELD_OUT + count) if seed in known]

    def all_of(self, cell: Cell) -> Sequence[Outcome]:
        """All that were run, in the order of seeds."""
        return [outcome for _, outcome in sorted(self._known.get(cell.key, {}).items())]
