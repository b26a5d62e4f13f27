"""simplify: remove what computes nothing, once; no bit of any output changes.

Constants are folded where every implementation comes to the same bits (`vlacut.ir.folding`),
operators without effect go, chains of views become one, and what is computed twice is computed
once. Fusions and algebra are left to the back ends: they change bits. Weights stay as they are,
under their names, and no content of a weight is read; so graphs traced on shapes alone simplify
alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
from onnx_ir.passes import common

from vlacut.ir.folding import MOST_ELEMENTS, fold_constants
from vlacut.ir.program import Program
from vlacut.ir.rewriting import name_uniquely, remove_unused
from vlacut_passes.views import drop_without_effect, join_views

_MOST_ROUNDS = 8


@dataclass(frozen=True)
class Simplify:
    """Simplify every phase, in place.

    Attributes:
        most_elements: of a value that is folded into a constant.
    """

    name: ClassVar[str] = "simplify"
    most_elements: int = MOST_ELEMENTS

    def run(self, program: Program) -> None:
        """Repeat until nothing changes; names and module paths of what is left stay."""
        for phase in program.phases:
            model = phase.model
            remove_unused(model)
            for _ in range(_MOST_ROUNDS):
                if not self._round(model):
                    break
            name_uniquely(model, f"phase {phase.name}")

    def _round(self, model: ir.Model) -> bool:
        folded = fold_constants(model, self.most_elements)
        if folded:
            remove_unused(model)
        changed = drop_without_effect(model.graph) + join_views(model.graph)
        if changed:
            remove_unused(model)
        merged = common.CommonSubexpressionEliminationPass()(model).modified
        return bool(folded or changed or merged)
