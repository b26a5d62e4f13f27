"""Effort: how much a search may do, counted and not timed, so that it answers alike everywhere."""

from __future__ import annotations

from dataclasses import dataclass

NODES_AT_LEAST = 100  # of HiGHS, for one problem
CUT = 10_000  # what is done around a minimum cut, beside its arcs


@dataclass
class Effort:
    """Work left to a search.

    Attributes:
        left: arcs of minimum cuts, and columns of HiGHS's nodes; a million take about a
            second of a core.
    """

    left: float

    @property
    def spent(self) -> bool:
        """Whether nothing is left."""
        return self.left <= 0

    def spend(self, work: float) -> None:
        """Count some work."""
        self.left -= work

    def nodes(self, columns: int) -> int:
        """How many nodes HiGHS may open on so many columns."""
        return max(NODES_AT_LEAST, int(max(self.left, 0.0) / max(columns, 1)))
