"""Emission: the parts and the uncut phases of a plan, made ready by their back ends, as files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from vlacut.bundle.contents import WholePhase
from vlacut.compiler.backends import BackEnds
from vlacut.compiler.batching import batched, check_back_end
from vlacut.compiler.part_surgery import Operation, before_surgery, on_parts, operate
from vlacut.compiler.planning import Planned
from vlacut.compiler.target import Target
from vlacut.errors import Progress, UnsupportedError
from vlacut.hardware import Side
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Program
from vlacut.plans.batch import parse_batches
from vlacut.split.emission import bundle_models, save
from vlacut.split.own_types import convert_model
from vlacut.split.weights import WeightStore
from vlacut.tensor.npz import npz_bytes

_SHOWN_FINDINGS = 3


@dataclass(frozen=True)
class Emission:
    """Where parts go, and what makes them ready.

    Attributes:
        folder: of the bundle.
        store: of its weights.
        ends: the back ends.
        recipes: what their executors must know, by side.
        types: that a side lacks, each with the one that it computes in.
        progress: called with what is being done, how much is done, and how much there is.
    """

    folder: Path
    store: WeightStore
    ends: BackEnds
    recipes: Mapping[str, Mapping[str, str]]
    types: Mapping[Side, Mapping[str, str]]
    progress: Progress

    def emit(
        self, program: Program, planned: Planned, target: Target, whole: Sequence[WholePhase]
    ) -> Planned:
        """Write all parts, those for several robots at once, and the uncut phases.

        What was planned, with the sizes of batches of its parts. Raises BackendError naming what a
        back end cannot run.
        """
        parts = planned.plan.parts
        models = bundle_models(program, planned.split, whole, self.ends.uncut)
        planned, together = self._batched(planned, target)
        devices = {Side.EDGE: target.edge, Side.CLOUD: target.cloud}
        surgery = {side: on_parts(target.surgery, side) for side in Side}
        against: list[str] = []
        for done, (path, side, model) in enumerate(models):
            self.progress("emit", done, len(parts) + len(whole))
            if done >= len(parts) and self.types.get(side):
                convert_model(model, self.types[side])
            self._prepare(model, path, side)
            if done < len(parts):
                self._operate(model, parts[done].name, side, surgery[side])
                where = f"{parts[done].name} on {devices[side]}"
                against += (f"{where}: {found}" for found in self._findings(model, side))
            self._write(model, self.folder / path)
        for name, model in together.items():
            self._prepare(model, name, Side.CLOUD)
            self._operate(model, name, Side.CLOUD, surgery[Side.CLOUD])
            self._write(model, self.folder / "parts" / f"{name}.onnx")
        _refuse(against, str(self.ends))
        return planned

    def _batched(self, planned: Planned, target: Target) -> tuple[Planned, Mapping[str, ir.Model]]:
        """What was planned with its parts' sizes of batches, and the models of these by name."""
        sizes = parse_batches(target.batch)
        if not sizes:
            return planned, {}
        check_back_end(self.ends.names[Side.CLOUD])
        parts, together = batched(
            planned.plan.parts, planned.split.models, sizes, target.edge, target.cloud
        )
        return replace(planned, plan=replace(planned.plan, parts=parts)), together

    def _prepare(self, model: ir.Model, where: str, side: Side) -> None:
        self.ends.builders[side].prepare(model, where, self.recipes[side.value])

    def _operate(
        self, model: ir.Model, name: str, side: Side, operations: Sequence[Operation]
    ) -> None:
        """Surgery on a part; what it was stays beside it, if its golden tensors are recorded."""
        if operations and self.ends.runner(side) != self.ends.names[side]:
            self._write(model, self.folder / before_surgery(name))
            ir.external_data.set_base_dir(model.graph, self.folder)  # where functions read them
        if operations:
            operate(model, name, operations)

    def _findings(self, model: ir.Model, side: Side) -> Iterator[str]:
        yield from map(str, self.ends.builders[side].findings(model, self.recipes[side.value]))

    def _write(self, model: ir.Model, file: Path) -> None:
        self.store.externalise(model)
        save(model, file)


def packs(planned: Planned, target: Target) -> bool:
    """Whether parts read each weight once for the rows of several requests or robots."""
    passes = parse_pipeline(planned.pipeline).passes
    return bool(target.batch) or any(one.name == "pack" for one in passes)


def write_initial(program: Program, folder: Path) -> None:
    """Write the initial values of state that are not zeros into a bundle's folder."""
    given = {
        state.input: state.first(program.state_spec(state))
        for state in program.state
        if state.initial is not None and program.reset_source(state.input) is None
    }
    if given:
        (folder / "initial.npz").write_bytes(npz_bytes(given))


def _refuse(against: Sequence[str], backend: str) -> None:
    """Raise UnsupportedError if anything stands against the parts."""
    if against:
        more = len(against) - _SHOWN_FINDINGS
        rest = [f"and {more} more"] if more > 0 else []
        raise UnsupportedError(
            f"{backend} cannot run {'; '.join([*against[:_SHOWN_FINDINGS], *rest])} (change the "
            f"model, --pin these operators to a side that can, or take another --backend)"
        )
