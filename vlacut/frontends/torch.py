"""The front end for torch: torch.export, then ONNX. No other module imports torch.

Weights are neither copied nor needed: initializers point at the storage of the module's parameters,
and a parameter on the device "meta" becomes an initializer of known shape without content, for
planning alone. Build such a module under `shapes_only()`, which keeps its *buffers* real: rotary
frequencies, position ids and the like are content that shapes are computed from, and cannot be
loaded later. Example inputs may be on "meta" too.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import fx
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from vlacut.errors import ModelError, tell
from vlacut.frontends.beside import SHARING, Sharing
from vlacut.frontends.dimensions import bind_shapes
from vlacut.frontends.names import input_names, output_names
from vlacut.frontends.normalize import normalize, separate_weights
from vlacut.frontends.pt2.program import read_program
from vlacut.frontends.remember import remember
from vlacut.frontends.shapes import infer_shapes
from vlacut.frontends.torch_export import emit, export, faked, is_real, quiet, reason, shapes_only
from vlacut.frontends.torch_original import (
    TorchPhase,
    exported_original,
    note_exported,
    note_module,
    note_phases,
    tensors,
    torch_runner,
)
from vlacut.frontends.traceable.adapting import Adapted, adapted
from vlacut.frontends.traceable.granted import Granted
from vlacut.frontends.traceable.noise import ARGUMENT
from vlacut.ir.annotation import COUNTED, EXAMPLE, FIXED, NOISE, NOTES, PREMISES
from vlacut.ir.graphs import value_spec
from vlacut.ir.original import Face, Original, Runner
from vlacut.ir.program import Phase, Program
from vlacut.ir.state import State, states_of
from vlacut.tensor import TensorSpec
from vlacut.tensor.noise import Noise

_USER = torch.export.graph_signature.InputKind.USER_INPUT

__all__ = [
    "TorchPhase",
    "load_pt2",
    "note_module",
    "program_from_module",
    "program_from_torch",
    "pt2_original",
    "pt2_phase",
    "pt2_runner",
    "shapes_only",
]


def program_from_torch(
    name: str,
    phases: Sequence[TorchPhase],
    observation: Sequence[str],
    action: Sequence[str],
    opset: int = 20,
    state: Mapping[str, str] | None = None,
    initial: Mapping[str, torch.Tensor] | None = None,
) -> Program:
    """Trace every phase of a policy.

    `state` says which outputs of a control step are which inputs of the next; neither is in the
    observation or the action. `initial` has the values of such inputs in the first step of an
    episode, where they are not zeros. `opset` is the version of ONNX's operators.

    Weights are named as the module's parameters, and every operator keeps its module path. The
    example inputs that are real tensors are recorded as `annotation.EXAMPLE`.

    What a phase draws becomes inputs of the observation: `noise.0`, `noise.1`, ...

    Raises ModelError if a phase cannot be traced, draws random numbers in a way that is not lifted,
    writes into its inputs or buffers, or if names do not fit together.
    """
    examples: dict[str, torch.Tensor] = {}
    with _no_collector():
        traced = _traced(phases, opset, observation)
    for phase, one in zip(phases, traced, strict=True):
        examples = {**phase.inputs, **one.drawn, **examples}
    observation = [*observation, *(name for one in traced for name in one.drawn)]
    values = {fed: _array(tensor) for fed, tensor in (initial or {}).items()}
    states = states_of(state or {}, values)
    made = tuple(one.phase for one in traced)
    program = _program(name, made, observation, action, examples, states)
    note_phases(program, phases, [one.drawn for one in traced])
    _say(program, traced, examples)
    return program


def program_from_module(
    module: torch.nn.Module | fx.GraphModule | ExportedProgram,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    name: str = "model",
    opset: int = 20,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    state: Mapping[str, str] | None = None,
) -> Program:
    """Trace a module, or take a traced one, as the one phase `main` of a program.

    Inputs and outputs are named as `vlacut.frontends.names` says. `shapes` binds the dynamic
    dimensions of an ExportedProgram that has some. `opset` and `state` are as in
    `program_from_torch`; at first state is zeros.

    Raises ModelError as `program_from_torch` does.
    """
    where = f"model {name}"
    if isinstance(module, ExportedProgram):
        model = emit(module, opset, where)
        given = input_names(module)
        traced = _Traced(_main(model, module, where, given, shapes), Granted(), ())
        examples = _examples(module, given)
    else:
        with (
            adapted(module, args, kwargs or {}, free=(state or {}).values()) as ready,
            faked(ready.module, (ready.args, ready.kwargs)) as (fake_args, fake_kwargs),
        ):
            exported = _lifted(ready, fake_args, fake_kwargs, where)
            model = emit(exported, opset, where)
        named = dict(zip(_leaf_names(exported, ready), input_names(exported), strict=True))
        leaves = [f"{ready.argument}.{place}" for place in range(len(ready.draws.found))]
        drawn = _noise_names(ready, [name for leaf, name in named.items() if leaf not in leaves])
        named.update(zip(leaves, drawn, strict=True))
        phase = _main(model, exported, where, list(named.values()), shapes)
        ready.granted.rename(named)
        traced = _Traced(phase, ready.granted, ready.notes, ready.noise(drawn))
        examples = {named[leaf]: tensor for leaf, tensor in ready.examples.items()}
    inputs, outputs = traced.phase.input_names, traced.phase.output_names
    program = _program(name, (traced.phase,), inputs, outputs, examples)
    _say(program, [traced], examples)
    if isinstance(module, ExportedProgram):
        note_exported(program, module)
    else:
        note_module(program, module, args, kwargs or {})
    if state:
        remember(program, state)
    return program


def _lifted(
    ready: Adapted, args: tuple[Any, ...], kwargs: Mapping[str, Any], where: str, before: int = 0
) -> ExportedProgram:
    """The trace of a module, with what it draws as inputs; so many others come `before`."""
    exported = export(ready.module, args, kwargs, where)
    if not ready.draws.found:
        return exported
    noise = ready.lift(before)
    return export(ready.module, args, {**kwargs, **noise}, where)


@dataclass(frozen=True)
class _Traced:
    """A phase, and what its trace depended on."""

    phase: Phase
    granted: Granted
    notes: Sequence[str]
    noise: Sequence[Noise] = ()
    drawn: Mapping[str, torch.Tensor] = field(default_factory=dict)  # an example of each

    def stands_alone(self, phase: TorchPhase) -> bool:
        """Whether graph and notes say all of the trace, and another process comes to the same."""
        taken = self.granted
        depends = taken.fixed or taken.assumed or taken.counted or taken.premises or self.noise
        return not depends and all(one.is_meta for one in phase.module.parameters())


def _main(
    model: ir.Model,
    exported: ExportedProgram,
    where: str,
    inputs: Sequence[str],
    shapes: Mapping[str, tuple[int, ...]] | None,
) -> Phase:
    outputs = output_names(exported, inputs)
    return Phase("main", _finish(model, where, inputs, outputs, shapes or {}))


def _leaf_names(exported: ExportedProgram, ready: Adapted) -> list[str]:
    """What the example calls the graph's inputs, which are in an order of torch's own."""
    spec = exported.call_spec.in_spec
    assert spec is not None
    args, kwargs = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    by_leaf = dict(ready.leaves(args, kwargs))
    given = [one.arg for one in exported.graph_signature.input_specs if one.kind == _USER]
    tensor = torch.export.graph_signature.TensorArgument
    return [by_leaf[leaf] for leaf, arg in enumerate(given) if isinstance(arg, tensor)]


def _say(program: Program, traced: Sequence[_Traced], examples: Mapping[str, torch.Tensor]) -> None:
    """Note what was done to the modules, and which inputs are fixed to the example's value."""
    notes = [note for one in traced for note in one.notes]
    fixed = {name: place for one in traced for name, place in one.granted.fixed.items()}
    assumed = {name: place for one in traced for name, place in one.granted.assumed.items()}
    for name, place in fixed.items():
        notes.append(f"input {name} is fixed to the example's value, which {place} asks for")
    for name, place in assumed.items():
        notes.append(f"what {place} decides by the values of {name} is decided as for the example")
    counted = {name: place for one in traced for name, place in one.granted.counted.items()}
    for name, place in counted.items():
        notes.append(f"{name} chooses as many places as in the example, at {place}")
    if counted:
        names = {name for group in counted for name in group.split(", ")}
        COUNTED.put(program, tuple(sorted(names)))
    noise = tuple(item for one in traced for item in one.noise)
    if noise:
        NOISE.put(program, noise)
    if notes:
        NOTES.put(program, tuple(dict.fromkeys(notes)))
    premises = [premise for one in traced for premise in one.granted.premises]
    if premises:
        PREMISES.put(program, tuple(dict.fromkeys(premises)))
    if fixed:
        FIXED.put(program, {name: _array(examples[name]) for name in fixed})


@contextmanager
def _no_collector() -> Iterator[None]:
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


def load_pt2(
    path: str | os.PathLike[str],
    opset: int = 20,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Program:
    """Load what `torch.export.save` wrote, as `program_from_module` does, with its `opset` and
    `shapes`.

    Nothing in the file is executed: it is read here as data (`vlacut.frontends.pt2`), and torch
    opens none of it.

    Raises ModelError if it is no such file, or as `program_from_module` does.
    """
    file = Path(path)
    return program_from_module(_read(file), name=file.stem, opset=opset, shapes=shapes)


def pt2_phase(
    file: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
    shapes: Mapping[str, tuple[int, ...]],
    opset: int = 20,
) -> tuple[ir.Model, dict[str, np.ndarray]]:
    """The graph of a .pt2 file whose tensors have these names, and its example by name.

    `shapes` binds dynamic dimensions, by input; `opset` is the version of ONNX's operators.

    Raises ModelError as `load_pt2` does.
    """
    exported, where = _read(file), str(file)
    model = _finish(emit(exported, opset, where), where, inputs, outputs, shapes)
    examples = _examples(exported, inputs)
    real = {name: tensor for name, tensor in examples.items() if is_real(tensor)}
    return model, {name: _array(tensor) for name, tensor in real.items()}


def pt2_runner(file: Path, inputs: Sequence[str], outputs: Sequence[str]) -> Runner:
    """Runs a .pt2 file by torch."""
    exported = _read(file)
    return torch_runner(exported.module(), exported.example_inputs or ((), {}), inputs, outputs)


def pt2_original(face: Face, file: Path) -> Original:
    """What the model check runs of a file that a program came from."""
    return exported_original(face, _read(file))


def _read(file: Path) -> ExportedProgram:
    try:
        with quiet():
            return read_program(file)
    except ModelError:
        raise
    except Exception as error:  # torch's own code, which knows no errors of a file's
        raise ModelError(
            f"{file}: torch {torch.__version__} cannot read it ({reason(error)}); "
            f"save it again with torch.export.save"
        ) from error


def _traced(
    phases: Sequence[TorchPhase], opset: int, observation: Collection[str]
) -> list[_Traced]:
    """The traces of all phases; those that other processes take come from there."""
    taken = {name for one in phases for name in one.inputs}
    made: dict[int, _Traced] = {}

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


def _receive(made: dict[int, _Traced], phases: Sequence[TorchPhase], sharing: Sharing) -> None:
    """Add what other processes traced."""
    for index, phase in enumerate(phases):
        found = None if index in made else sharing.receive(index)
        if found is not None:
            model, notes = found
            same = Phase(phase.name, model, phase.trips, dict(phase.carried), phase.when)
            made[index] = _Traced(same, Granted(), notes)


def _phase(
    phase: TorchPhase, opset: int, free: Collection[str], taken: Collection[str], before: int
) -> _Traced:
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
        exported = _lifted(ready, args, {}, where, before)
        model = emit(exported, opset, where)
    drawn = _noise_names(ready, taken, before)
    if drawn and phase.trips > 1:
        raise ModelError(
            f"{where}: draws random numbers in each of its {phase.trips} trips; let the phase take "
            f"those of a trip as an input, or return one module with the loop in it, and --roll it"
        )
    model.graph.name = phase.name
    model = _finish(model, where, [*phase.inputs, *drawn], phase.outputs, {})
    made = Phase(phase.name, model, phase.trips, dict(phase.carried), phase.when)
    examples = dict(zip(drawn, ready.drawn_examples, strict=True))
    return _Traced(made, ready.granted, ready.notes, ready.noise(list(drawn)), examples)


def _noise_names(ready: Adapted, taken: Collection[str], before: int = 0) -> list[str]:
    """Names for what is drawn, that no input has which is `taken`."""
    prefix = ARGUMENT
    while any(name.startswith(f"{prefix}.") for name in taken):
        prefix = f"drawn_{prefix}"
    return [f"{prefix}.{before + place}" for place in range(len(ready.draws.found))]


def _finish(
    model: ir.Model,
    where: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    shapes: Mapping[str, tuple[int, ...]],
) -> ir.Model:
    """Names on the interface, normal form, static shapes."""
    graph = model.graph
    for kind, values, names in (
        ("inputs", graph.inputs, inputs),
        ("outputs", graph.outputs, outputs),
    ):
        if len(values) != len(names):
            raise ModelError(
                f"{where}: {len(names)} names of {kind} ({', '.join(names)}) for {len(values)} "
                f"tensors; give one name a tensor, in order"
            )
    for value, name in zip(graph.inputs, inputs, strict=True):
        value.name = name
    normalize(model, where, outputs)
    bind_shapes(model, shapes, where)
    infer_shapes(model, where)
    return model


def _program(
    name: str,
    phases: tuple[Phase, ...],
    observation: Sequence[str],
    action: Sequence[str],
    examples: Mapping[str, torch.Tensor],
    state: tuple[State, ...] = (),
) -> Program:
    separate_weights(phases)
    inputs = tuple(_spec(name, phases, item, "input") for item in observation)
    outputs = tuple(_spec(name, phases[::-1], item, "output") for item in action)
    program = Program(name, phases, inputs, outputs, state=state)
    real = {item: examples[item] for item in observation if is_real(examples.get(item))}
    if real:
        EXAMPLE.put(program, {item: _array(tensor) for item, tensor in real.items()})
    return program


def _spec(program: str, phases: Sequence[Phase], name: str, kind: str) -> TensorSpec:
    for phase in phases:
        graph = phase.model.graph
        for value in graph.inputs if kind == "input" else graph.outputs:
            if value.name == name:
                return value_spec(value)
    raise ModelError(f"program {program}: no phase has the {kind} {name}")


def _array(tensor: torch.Tensor) -> np.ndarray:
    """The tensor as numpy carries it at run time, see `vlacut.tensor`."""
    plain = tensor.detach().cpu().contiguous()
    if plain.dtype == torch.bfloat16:
        plain = plain.view(torch.uint16)
    return plain.numpy().copy()


def _examples(exported: ExportedProgram, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """The recorded example inputs that are tensors, by name."""
    if exported.example_inputs is None:
        return {}
    found = tensors(exported.example_inputs)
    return dict(zip(names, found, strict=True)) if len(found) == len(names) else {}
