"""Traces of a policy's phases, those that other processes take from there."""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch.export import ExportedProgram

from vlacut.errors import ModelError, tell
from vlacut.frontends.beside import SHARING, Sharing
from vlacut.frontends.exported.emitting import emit
from vlacut.frontends.exported.exporting import export
from vlacut.frontends.exported.fakes import faked
from vlacut.frontends.torch_original import TorchPhase
from vlacut.frontends.torch_program import Traced, finished
from vlacut.frontends.traceable.adapting import Adapted, adapted
from vlacut.frontends.traceable.granted import Granted
from vlacut.frontends.traceable.noise import ARGUMENT
from vlacut.ir.program import Phase


def traced_phases(
    phases: Sequence[TorchPhase], opset: int, observation: Collection[str]
) -> list[Traced]:
    """The traces of all phases; those that other processes take come from there."""
    taken = {name for one in phases for name in one.inputs}
    made: dict[int, Traced] = {}

    def trace(index: int) -> None:
        phase = phases[index]
        tell(f"trace {phase.name}", len(made), len(phases))
        free = {key for key in phase.inputs if key not in observation}
        free.update(phase.carried.values() if phase.trips > 1 else ())
        before = sum(len(one.noise) for place, one in made.items() if place < index)
        made[index] = _phase(phase, opset, free, taken, before)

    sharing = SHARING.get()
    SHARING.set(None)  # phases are known by their numbers, which another program has, too
    for index, phase in enumerate(phases):
        if sharing is None or sharing.take(index):
            trace(index)
            if sharing is not None and sharing.is_anothers and made[index].stands_alone(phase):
                sharing.hand_over(index, made[index].phase.model, made[index].notes)
    if sharing is not None:
        sharing.end_of_anothers()
        _receive(made, phases, sharing)
    if sharing is not None and any(one.noise for one in made.values()):
        made.clear()  # noise is numbered over the phases in their order
    for index in sorted(set(range(len(phases))) - made.keys()):
        trace(index)
    return [made[index] for index in range(len(phases))]


def _receive(made: dict[int, Traced], phases: Sequence[TorchPhase], sharing: Sharing) -> None:
    """Add what other processes traced."""
    for index, phase in enumerate(phases):
        found = None if index in made else sharing.receive(index)
        if found is not None:
            model, notes = found
            same = Phase(phase.name, model, phase.trips, dict(phase.carried), phase.when)
            made[index] = Traced(same, Granted(), notes)


def _phase(
    phase: TorchPhase, opset: int, free: Collection[str], taken: Collection[str], before: int
) -> Traced:
    """Trace a phase; names of inputs that are `taken` are none of its noise, of which so many are
    of phases `before`.
    """
    where = f"phase {phase.name}"
    if not hasattr(phase.module, phase.method):
        raise ModelError(f"{where}: {type(phase.module).__name__} has no method {phase.method}")
    given = tuple(phase.inputs.values())
    names = tuple(phase.inputs)
    with (
        adapted(phase.module, given, {}, phase.method, free, names) as ready,
        faked(ready.module, (ready.args, {})) as (args, _),
    ):
        exported = lifted(ready, args, {}, where, before)
        model = emit(exported, opset, where)
    drawn = noise_names(ready, taken, before)
    if drawn and phase.trips > 1:
        raise ModelError(
            f"{where}: draws random numbers in each of its {phase.trips} trips; let the phase take "
            f"those of a trip as an input, or return one module with the loop in it, and --roll it"
        )
    model.graph.name = phase.name
    model = finished(model, where, [*phase.inputs, *drawn], phase.outputs, {})
    made = Phase(phase.name, model, phase.trips, dict(phase.carried), phase.when)
    examples = dict(zip(drawn, ready.drawn_examples, strict=True))
    return Traced(made, ready.granted, ready.notes, ready.noise(list(drawn)), examples)


def lifted(
    ready: Adapted, args: tuple[Any, ...], kwargs: Mapping[str, Any], where: str, before: int = 0
) -> ExportedProgram:
    """The trace of a module, with what it draws as inputs; so many others come `before`."""
    exported = export(ready.module, args, kwargs, where)
    if not ready.draws.found:
        return exported
    noise = ready.lift(before)
    return export(ready.module, args, {**kwargs, **noise}, where)


def noise_names(ready: Adapted, taken: Collection[str], before: int = 0) -> list[str]:
    """Names for what is drawn, that no input has which is `taken`."""
    prefix = ARGUMENT
    while any(name.startswith(f"{prefix}.") for name in taken):
        prefix = f"drawn_{prefix}"
    return [f"{prefix}.{before + place}" for place in range(len(ready.draws.found))]


@contextmanager
def no_collector() -> Iterator[None]:
    """Let Python's collector of cycles rest: what tracing allocates is kept, so it finds little.

    It took 5 s of 35 s for OpenVLA; without it the peak was 0.8 GB, not 0.63 GB.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
