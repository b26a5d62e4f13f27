"""What a target asks of how a loop runs: trip by trip, with requests in flight, or over drafts."""

from __future__ import annotations

from pathlib import Path

from vlacut.bundle.draft_table import DraftTable, read_draft_table
from vlacut.errors import InputError
from vlacut.hardware import parse_seconds
from vlacut.tensor.drafts import INPUT, parse_draft

AUTO, AGE = "auto", "age"


class WayOptions:
    """The options of `Target` that say how a loop runs, which has them as fields."""

    draft: str
    draft_table: str
    in_flight: int | str
    max_age: str
    minimise: str

    def check_way(self) -> None:
        """Raise InputError, with the option that is at fault, for what no loop could run like."""
        if isinstance(self.in_flight, str) and self.in_flight != AUTO:
            raise InputError(f"--in-flight: {self.in_flight!r}: write a number, or {AUTO}")
        self._check_drafts()
        if self.draft and self.in_flight and not self.draft == self.in_flight == AUTO:
            raise InputError(
                "--draft and --in-flight: a step does one of the two; leave one out, or have auto"
            )

    def _check_drafts(self) -> None:
        if self.draft and self.draft != AUTO:
            parse_draft(self.draft)
        if self.draft == AUTO and not self.draft_table:
            raise InputError("--draft auto chooses by --draft-table: what calibrate-draft wrote")
        if self.draft_table:
            table = self.measured_drafts
            if table is not None and self.draft not in ("", AUTO, INPUT):
                table.right(self.draft)

    @property
    def measured_drafts(self) -> DraftTable | None:
        """The table of drafts; None without one."""
        return read_draft_table(Path(self.draft_table)) if self.draft_table else None

    @property
    def asks_for_a_way(self) -> bool:
        """Whether a loop is to run otherwise than trip by trip, or may."""
        return bool(self.draft or self.in_flight or self.minimise == AGE)

    @property
    def chooses_in_flight(self) -> bool:
        """Whether the planner chooses how many requests are in flight."""
        if self.in_flight == AUTO:
            return True
        return self.minimise == AGE and not self.in_flight and not self.draft

    @property
    def chooses_draft(self) -> bool:
        """Whether the planner chooses where drafts come from."""
        if self.draft == AUTO:
            return True
        return self.chooses_in_flight and bool(self.draft_table) and self.minimise == AGE

    @property
    def undecided(self) -> bool:
        """Whether the planner chooses the way that the loop runs."""
        return self.chooses_in_flight or self.chooses_draft

    @property
    def packs(self) -> bool:
        """Whether products are to be joined, in some way at least."""
        return bool(self.draft or self.in_flight)

    def check_age(self, age_s: float) -> None:
        """Raise InputError if the action in force would be older than is allowed."""
        if self.max_age and age_s > parse_seconds(self.max_age):
            raise InputError(
                f"--max-age: the action in force would be {age_s * 1e3:.3g} ms old on average, and "
                f"{self.max_age} is allowed; have fewer requests --in-flight (auto chooses), or "
                f"raise it"
            )
