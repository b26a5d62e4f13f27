"""What runs once a bundle's files are there: the golden step, and the model check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vlacut import registry
from vlacut.bundle.contents import WholePhase
from vlacut.bundle.model_check import ModelCheck
from vlacut.compiler.backends import BackEnds
from vlacut.compiler.golden import write_golden
from vlacut.compiler.model_check.check import check_model
from vlacut.compiler.model_check.kept import KEPT_CHECKS
from vlacut.compiler.uncut import running_here
from vlacut.errors import BackendError, InputError, Progress
from vlacut.ir.original import ORIGINAL, Original
from vlacut.ir.program import Program
from vlacut.plans.plan import Plan

_NOTHING = Original("a program", why_not="what the program came from is not known")


class Recorder:
    """Runs the uncut phases of a bundle that is being made.

    Args:
        program: that is compiled, its passes through.
        plan: of it.
        phases: the uncut ones.
        folder: where the bundle is being made; every model is in it.
        ends: the back ends of the bundle.
        progress: as of `compile_program`.
    """

    def __init__(
        self,
        program: Program,
        plan: Plan,
        phases: Sequence[WholePhase],
        folder: Path,
        ends: BackEnds,
        progress: Progress,
    ) -> None:
        self._program, self._plan, self._phases = program, plan, phases
        self._folder, self._ends, self._progress = folder, ends, progress
        self._find = ORIGINAL.find(program) or (lambda: _NOTHING)
        self._original = _NOTHING
        self._kept = KEPT_CHECKS.find(program)

    def run(
        self, golden: bool, model_check: bool, tolerance: float | None
    ) -> tuple[ModelCheck, tuple[str, ...]]:
        """Record the golden step and check the model, as far as asked for and possible here.

        Returns the record of the model check, and a line on it. Raises InputError if a golden step
        is asked for and nothing runs the phases here, BackendError if an engine fails, ModelDiffers
        if the check fails.
        """
        golden = golden and self._ends.computes
        for side, builder in self._ends.builders.items() if golden else ():
            if builder.reference not in registry.names("executors"):
                raise InputError(
                    f"back end {self._ends.names[side]} runs nothing here; record no step with "
                    f"--no-golden"
                )
        known = self._known(tolerance) if model_check else None
        if known is None and (why_not := self._why_not(model_check)):
            known = ModelCheck("", why_not)
        if not golden and known is not None:
            return known, ()
        try:
            return self._run(golden, known, tolerance)
        except BackendError as error:
            if golden:
                raise
            return ModelCheck("", f"this machine cannot run the program: {error}"), ()

    def _run(
        self, golden: bool, known: ModelCheck | None, tolerance: float | None
    ) -> tuple[ModelCheck, tuple[str, ...]]:
        folder, phases = self._folder, self._phases
        with running_here(folder, self._ends) as here:
            uncut = self._ends.uncut
            engines = {one.name: here.load(uncut, f"whole/{one.name}.onnx") for one in phases}
            if golden:
                write_golden(
                    self._program, self._plan, phases, folder, engines, here, self._progress
                )
            if known is not None:
                return known, ()
            checked = check_model(
                self._program, self._original, phases, engines, tolerance, self._progress
            )
            if self._kept is not None:
                self._kept.keep(self._program, checked[0])
            return checked

    def _known(self, tolerance: float | None) -> ModelCheck | None:
        """The record that the trace came with, if it is of this program, and within a tolerance."""
        found = None if self._kept is None else self._kept.find(self._program)
        if found is None or not self._ends.computes:
            return None
        most = found.tolerance if tolerance is None else tolerance
        within = found.difference <= most * found.magnitude
        return replace(found, tolerance=most) if within else None

    def _why_not(self, asked: bool) -> str:
        """Why nothing is compared; empty if it can be."""
        if not asked:
            return "--no-model-check"
        self._original = self._find()
        if self._original.why_not:
            return self._original.why_not
        return "" if self._ends.computes else f"parts for {self._ends} compute nothing"
