"""What users add to a bundle: files that other commands made, for its robots."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlacut.bundle.layout import ACTIONS, DRAFTS, PRECISIONS, PREDICTORS
from vlacut.bundle.writing import add_file
from vlacut.compiler.advice import slow_samples
from vlacut.control.precision_table import PrecisionTable, read_precision_table
from vlacut.control.tables import ActionTables, read_tables
from vlacut.plans.plan import Plan
from vlacut.runtime.network.lstm import read_weights


@dataclass(frozen=True)
class Additions:
    """Files to put into a bundle; None for none.

    Attributes:
        predictor: of `vlacut train-predictor`.
        actions: of `vlacut calibrate-actions`, for the plan's variants.
        precision_table: of `vlacut calibrate-precision`, for its precisions.
        draft_table: of `vlacut calibrate-draft`.
    """

    predictor: Path | None = None
    actions: Path | None = None
    precision_table: Path | None = None
    draft_table: Path | None = None

    def read(self) -> Added:
        """Their contents. Raises InputError if one is not what it should be."""
        return Added(
            read_weights(self.predictor).interval_s if self.predictor else 0.0,
            read_tables(self.actions) if self.actions else None,
            read_precision_table(self.precision_table) if self.precision_table else None,
        )

    def write(self, folder: Path) -> tuple[str, str]:
        """Copy them into a bundle's folder; paths there of the predictor and of the actions."""
        add_file(folder, PRECISIONS, self.precision_table)
        add_file(folder, DRAFTS, self.draft_table)
        predictor = add_file(folder, PREDICTORS, self.predictor)
        return predictor, add_file(folder, ACTIONS, self.actions)


@dataclass(frozen=True)
class Added:
    """What the files of `Additions` hold.

    Attributes:
        interval_s: between the samples that the predictor was trained on; 0 without one.
        actions: errors of the action by variant.
        precisions: errors of the action by precision.
    """

    interval_s: float
    actions: ActionTables | None
    precisions: PrecisionTable | None

    def check(self, plan: Plan) -> None:
        """Raise InputError if a table is another plan's."""
        if self.actions is not None:
            self.actions.check([variant.name for variant in plan.variants])
        if self.precisions is not None:
            self.precisions.check([variant.precision for variant in plan.variants])

    def doubts(self, plan: Plan) -> str:
        """What a user should know of them beside a plan; empty for nothing."""
        return slow_samples(self.interval_s, plan)
