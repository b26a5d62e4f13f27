"""The front end for torch: torch.export, then ONNX. No other module imports torch.

Weights are neither copied nor needed: initializers point at the storage of the module's parameters,
and a parameter on the device "meta" becomes an initializer of known shape without content, for
planning alone. Build such a module under `shapes_only()`, which keeps its *buffers* real: rotary
frequencies, position ids and the like are content that shapes are computed from, and cannot be
loaded later. Example inputs may be on "meta" too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import fx
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from vlacut.frontends.exported.emitting import emit
from vlacut.frontends.exported.fakes import faked, shapes_only
from vlacut.frontends.names import input_names, output_names
from vlacut.frontends.remember import remember
from vlacut.frontends.torch_original import TorchPhase, note_exported, note_module, note_phases
from vlacut.frontends.torch_phases import lifted, no_collector, noise_names, traced_phases
from vlacut.frontends.torch_program import (
    Traced,
    array_of,
    examples_of,
    finished,
    made_program,
    say,
)
from vlacut.frontends.traceable.adapting import Adapted, adapted
from vlacut.frontends.traceable.granted import Granted
from vlacut.ir.program import Phase, Program
from vlacut.ir.state import states_of

_USER = torch.export.graph_signature.InputKind.USER_INPUT

__all__ = [
    "TorchPhase",
    "note_module",
    "program_from_module",
    "program_from_torch",
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
    with no_collector():
        traced = traced_phases(phases, opset, observation)
    for phase, one in zip(phases, traced, strict=True):
        examples = {**phase.inputs, **one.drawn, **examples}
    observation = [*observation, *(name for one in traced for name in one.drawn)]
    values = {fed: array_of(tensor) for fed, tensor in (initial or {}).items()}
    states = states_of(state or {}, values)
    made = tuple(one.phase for one in traced)
    program = made_program(name, made, observation, action, examples, states)
    note_phases(program, phases, [one.drawn for one in traced])
    say(program, traced, examples)
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
        traced = Traced(_main(model, module, where, given, shapes), Granted(), ())
        examples = examples_of(module, given)
    else:
        with (
            adapted(module, args, kwargs or {}, free=(state or {}).values()) as ready,
            faked(ready.module, (ready.args, ready.kwargs)) as (fake_args, fake_kwargs),
        ):
            exported = lifted(ready, fake_args, fake_kwargs, where)
            model = emit(exported, opset, where)
        named = dict(zip(_leaf_names(exported, ready), input_names(exported), strict=True))
        leaves = [f"{ready.argument}.{place}" for place in range(len(ready.draws.found))]
        drawn = noise_names(ready, [name for leaf, name in named.items() if leaf not in leaves])
        named.update(zip(leaves, drawn, strict=True))
        phase = _main(model, exported, where, list(named.values()), shapes)
        ready.granted.rename(named)
        traced = Traced(phase, ready.granted, ready.notes, ready.noise(drawn))
        examples = {named[leaf]: tensor for leaf, tensor in ready.examples.items()}
    inputs, outputs = traced.phase.input_names, traced.phase.output_names
    program = made_program(name, (traced.phase,), inputs, outputs, examples)
    say(program, [traced], examples)
    if isinstance(module, ExportedProgram):
        note_exported(program, module)
    else:
        note_module(program, module, args, kwargs or {})
    if state:
        remember(program, state)
    return program


def _main(
    model: ir.Model,
    exported: ExportedProgram,
    where: str,
    inputs: Sequence[str],
    shapes: Mapping[str, tuple[int, ...]] | None,
) -> Phase:
    outputs = output_names(exported, inputs)
    return Phase("main", finished(model, where, inputs, outputs, shapes or {}))


def _leaf_names(exported: ExportedProgram, ready: Adapted) -> list[str]:
    """What the example calls the graph's inputs, which are in an order of torch's own."""
    spec = exported.call_spec.in_spec
    assert spec is not None
    args, kwargs = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    by_leaf = dict(ready.leaves(args, kwargs))
    given = [one.arg for one in exported.graph_signature.input_specs if one.kind == _USER]
    tensor = torch.export.graph_signature.TensorArgument
    return [by_leaf[leaf] for leaf, arg in enumerate(given) if isinstance(arg, tensor)]
