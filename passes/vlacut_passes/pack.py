"""pack: products of one weight over rows that do not depend on one another, as one product."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from onnx_ir.passes import common

from vlacut.errors import PassError, suggestion
from vlacut.ir.annotation import NOTES
from vlacut.ir.program import Program
from vlacut.ir.rewriting import name_uniquely, remove_unused
from vlacut_passes.packing.likeness import Packed
from vlacut_passes.packing.scheduling import pack_graph

_SHOWN = 3
_ATTENTION = ("alone", "batched")


@dataclass(frozen=True)
class Pack:
    """Reads every weight once for all that is multiplied with it in a phase.

    A phase may hold several instances of the same layers: a picture of each camera, a request in
    each stage, a token of each draft. Products (MatMul, Gemm) of the same weight that do not depend
    on one another become one, over their rows one behind the other. What lies between two such
    products and works row by row is joined too: operators on elements, normalisations, views; what
    each instance has of its own there, as the angles of a rotary embedding, is concatenated. What
    mixes rows, as attention does, stays an operator of each instance; or, with `attention=batched`,
    instances of the same shapes are a batch in it, each with its own cache and its own mask, which
    takes fewer operators and copies keys and values once.

    The rows of a product are summed as before; an executor may sum in another order where there
    are more of them, so results are the same within its own rounding over numbers of rows.

    The notes of the program say what was joined, and what was not and why.

    Attributes:
        attention: `alone` or `batched`.

    Raises PassError for another.
    """

    name: ClassVar[str] = "pack"
    attention: str = "alone"

    def run(self, program: Program) -> None:
        """See `vlacut.ir.pipeline.Pass`."""
        if self.attention not in _ATTENTION:
            raise PassError(f"attention={self.attention}: {suggestion(self.attention, _ATTENTION)}")
        batched = self.attention == "batched"
        notes: list[str] = []
        for phase in program.phases:
            common.CommonSubexpressionEliminationPass()(phase.model)
            packed = pack_graph(phase.model.graph, batched)
            remove_unused(phase.model)
            name_uniquely(phase.model, f"phase {phase.name}")
            notes += (f"phase {phase.name}: {line}" for line in _lines(packed))
        if notes:
            NOTES.put(program, (*(NOTES.find(program) or ()), *notes))


def _lines(packed: Packed) -> Iterator[str]:
    """What was joined, and what was not."""
    if packed.products:
        before = sum(count for _, count in packed.products)
        weights = len({weight for weight, _ in packed.products})
        between, after = packed.operators
        yield (
            f"{before} products of {weights} weights are {len(packed.products)} now, and {between} "
            f"operators between them {after}"
        )
    if packed.slots[1]:
        yield "{} products that begin an attention are {} batches of instances now".format(
            *packed.slots
        )
    reasons = Counter(packed.apart.values())
    for reason, count in reasons.most_common(_SHOWN):
        name = next(weight for weight, why in packed.apart.items() if why == reason)
        more = f" and {count - 1} more" if count > 1 else ""
        yield f"products of {name}{more} are not all joined: {reason}"
    if packed.products and packed.single:
        total = sum(packed.single.values())
        shown = ", ".join(
            f"{reason} ({count})" for reason, count in packed.single.most_common(_SHOWN)
        )
        yield f"{total} operators that read joined rows stay one for each instance: {shown}"
