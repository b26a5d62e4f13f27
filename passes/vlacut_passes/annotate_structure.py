"""annotate-structure: the stage, the block and the place in the block of every operator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from vlacut.errors import PassError
from vlacut.ir.annotation import STRUCTURE, Structure
from vlacut.ir.program import Program
from vlacut_passes.structure import paths, repetition
from vlacut_passes.structure.stages import BACKBONE, stages
from vlacut_passes.structure.view import Spot, View, look


@dataclass(frozen=True)
class AnnotateStructure:
    """Write STRUCTURE on every operator.

    Blocks come from module paths, if at least half of a phase's operators have one (see
    `structure.paths`), else from repetition (see `structure.repetition`). Blocks from repetition
    are named `block.RUN.COPY`, and operators between runs `PHASE.segment.NUMBER`. A copy that reads
    the weights of a block of an earlier phase has that block's name. For stages see
    `structure.stages`. An operator on weights alone belongs to its reader's block.
    """

    name: ClassVar[str] = "annotate-structure"

    def run(self, program: Program) -> None:
        """Annotate. Raises PassError where a weight's shape is not static."""
        try:
            views = [look(phase) for phase in program.phases]
        except ValueError as error:
            raise PassError(f"program {program.name}: {error}") from error
        spots = _spots(views)
        found = stages(program, views, spots)
        for view in views:
            for node in view.nodes:
                spot = spots[node]
                block = spot.block or view.phase.name
                STRUCTURE.put(node, Structure(found[node], block, spot.place))
            for node in view.folded:
                near = (STRUCTURE.find(reader) for reader in view.consumers[node])
                alone = Structure(BACKBONE, view.phase.name, "")
                STRUCTURE.put(node, next((item for item in near if item), alone))


def _spots(views: Sequence[View]) -> dict[ir.Node, Spot]:
    by_view = [paths.paths(view) for view in views]
    named = [(view, of) for view, of in zip(views, by_view, strict=True) if of is not None]
    spots = paths.spots([view for view, _ in named], [of for _, of in named])
    known = _Names()
    for view, _ in named:
        known.learn(view, spots)
    for view, of in zip(views, by_view, strict=True):
        if of is None:
            spots.update(_repeated(view, known))
            known.learn(view, spots)
    return spots


class _Names:
    """Blocks by the weights they read, so that phases that share weights share names."""

    def __init__(self) -> None:
        self._by_weight: dict[str, Spot] = {}
        self._runs = 0

    def learn(self, view: View, spots: Mapping[ir.Node, Spot]) -> None:
        for node, weights in view.weights.items():
            if spots[node].run:
                spot = Spot(spots[node].block, "", spots[node].run)
                for weight in weights:
                    self._by_weight.setdefault(weight.name, spot)

    def blocks(self, view: View, run: repetition.Run) -> list[Spot]:
        """Names of the copies: those of known blocks with their weights, else new ones."""
        known = [self._known(view, copy) for copy in run.copies]
        if all(known) and len({spot.block for spot in known if spot}) == len(known):
            return [spot for spot in known if spot]
        name = f"block.{self._runs}"
        self._runs += 1
        return [Spot(f"{name}.{copy}", "", name) for copy in range(len(run.copies))]

    def _known(self, view: View, copy: Sequence[ir.Node]) -> Spot | None:
        """The block that holds most of a copy's bytes of weights, if it holds half of them."""
        held: dict[Spot | None, int] = {}
        for node in copy:
            for weight in view.weights.get(node, ()):
                spot = self._by_weight.get(weight.name)
                held[spot] = held.get(spot, 0) + weight.nbytes
        best = max(held, key=lambda spot: held[spot], default=None)
        return best if best and 2 * held[best] >= sum(held.values()) else None


def _repeated(view: View, known: _Names) -> dict[ir.Node, Spot]:
    found: dict[ir.Node, Spot] = {}
    starts: list[ir.Node] = []
    for run in repetition.runs(view):
        starts.append(run.copies[0][0])
        for spot, copy in zip(known.blocks(view, run), run.copies, strict=True):
            for node, place in _places(copy):
                found.setdefault(node, Spot(spot.block, place, spot.run))
    segment = 0
    for node in view.nodes:
        segment += node in starts
        found.setdefault(node, Spot(f"{view.phase.name}.segment.{segment}"))
    return found


def _places(copy: Sequence[ir.Node]) -> Iterator[tuple[ir.Node, str]]:
    """Every operator of a copy with its kind and number among those of its kind: `matmul.3`."""
    seen: dict[str, int] = {}
    for node in copy:
        kind = node.op_type.lower()
        yield node, f"{kind}.{seen.setdefault(kind, 0)}"
        seen[kind] += 1
