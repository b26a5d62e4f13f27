"""What the front end for torch was given, as the model check runs it, untraced."""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from vlacut.errors import ModelError
from vlacut.frontends.exported.fakes import is_real
from vlacut.frontends.exported.saying import quiet
from vlacut.frontends.traceable.noise import NoisyCall, torch_tensor
from vlacut.frontends.traceable.plain_calls import plain_call
from vlacut.ir.annotation import EXAMPLE, NOISE
from vlacut.ir.original import Face, Numbers, Original, Runner, face_of, note, precision_of
from vlacut.ir.program import Program
from vlacut.ir.state import STEP

_NOISE = "vlacut noise"  # no argument of anybody's
MODULE, EXPORTED = "your PyTorch module", "the exported program"
SHAPES_ALONE = "it was traced on shapes alone"


@dataclass(frozen=True)
class TorchPhase:
    """One phase of a policy: a method of its module.

    Attributes:
        name: of the phase.
        module: the whole policy; phases of one policy hand over the same module.
        inputs: example tensors by name, in the order of the method's arguments.
        outputs: names of the tensors it returns, in the order in which nested ones flatten.
        method: which method of the module the phase is.
        trips, carried, when: as in `vlacut.ir.program.Phase`.
    """

    name: str
    module: torch.nn.Module
    inputs: Mapping[str, torch.Tensor]
    outputs: tuple[str, ...]
    method: str = "forward"
    trips: int = 1
    carried: Mapping[str, str] = field(default_factory=dict)
    when: str = STEP


def note_phases(
    program: Program,
    phases: Sequence[TorchPhase],
    drawn: Sequence[Mapping[str, torch.Tensor]],
) -> None:
    """Let the model check run the phases as methods of their modules; `drawn` has the example of
    what each draws, by the input's name.
    """
    modules = {id(phase.module): phase.module for phase in phases}.values()
    if not all(map(has_content, modules)) or not _are_real([phase.inputs for phase in phases]):
        note(program, Original(MODULE, why_not=SHAPES_ALONE))
        return
    runners = {
        phase.name: _noisy_runner(
            bound_method(phase.module, phase.method, f"phase {phase.name}"),
            (tuple(phase.inputs.values()), {}),
            list(phase.inputs),
            phase.outputs,
            noise,
        )
        for phase, noise in zip(phases, drawn, strict=True)
    }
    note(program, Original(MODULE, runners, precision=precision_of(program)))


def note_module(
    program: Program, module: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    """Let the model check run the module of which a program of one phase is the trace.

    Args:
        program: of which outputs are in the order of the module's tensors.
        module: untraced.
        args: that it was traced on.
        kwargs: the same by keyword.
    """
    if not _are_real((args, dict(kwargs))) or not has_content(module):
        note(program, Original(MODULE, why_not=SHAPES_ALONE))
    else:
        plain = plain_call(module, args, kwargs)
        recorded = EXAMPLE.find(program) or {}
        specs = {spec.name: spec for spec in program.inputs}
        noise = {
            one.input: torch_tensor(recorded[one.input], specs[one.input])
            for one in NOISE.find(program) or ()
        }
        runner = _noisy_runner(
            *(plain, (plain.args, plain.kwargs), list(plain.examples)),
            *(face_of(program).outputs, noise),
        )
        phases = {face_of(program).phase: runner}
        note(program, Original(MODULE, phases, precision=precision_of(program)))


def note_exported(program: Program, exported: ExportedProgram) -> None:
    """Let the model check run the traced module of which a program is the ONNX form."""
    note(program, exported_original(face_of(program), exported))


def exported_original(face: Face, exported: ExportedProgram) -> Original:
    """See `note_exported`."""
    module: list[Any] = []  # made when it is first run, and once

    def call(*args: Any, **kwargs: Any) -> Any:
        if not module:
            module.append(exported.module())
        return module[0](*args, **kwargs)

    if exported.example_inputs is None:
        return Original(EXPORTED, why_not="it has no example")
    if not _are_real((exported.example_inputs, dict(exported.state_dict))):
        return Original(EXPORTED, why_not=SHAPES_ALONE)
    return _one_phase(face, EXPORTED, call, exported.example_inputs)


def _one_phase(
    face: Face,
    what: str,
    call: Callable[..., Any],
    example: tuple[tuple[Any, ...], Mapping[str, Any]],
) -> Original:
    if len(tensors(example)) != len(face.inputs):
        return Original(what, why_not="the tensors of its example are not its inputs, one by one")
    runner = torch_runner(call, example, face.inputs, face.outputs)
    return Original(what, {face.phase: runner}, precision=face.precision)


def bound_method(module: torch.nn.Module, method: str, where: str) -> torch.nn.Module:
    """The module with one of its methods as forward; parameters and paths are the module's.

    Raises ModelError, starting with `where`, if it has no such method.
    """
    if method == "forward":
        return module
    function = getattr(type(module), method, None)
    if function is None:
        raise ModelError(f"{where}: {type(module).__name__} has no method {method}")
    twin = copy.copy(module)  # shares parameters, buffers and submodules
    twin.forward = types.MethodType(function, twin)
    return twin


def tensors(tree: Any) -> list[torch.Tensor]:
    """Those in nested arguments, in order."""
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _are_real(tree: Any) -> bool:
    return all(map(is_real, tensors(tree)))


def has_content(module: torch.nn.Module) -> bool:
    """Whether every parameter and buffer of a module holds numbers."""
    return all(map(is_real, (*module.parameters(), *module.buffers())))


def _noisy_runner(
    call: Callable[..., Any],
    example: tuple[tuple[Any, ...], Mapping[str, Any]],
    inputs: Sequence[str],
    outputs: Sequence[str],
    noise: Mapping[str, torch.Tensor],
) -> Runner:
    """As `torch_runner`; what the call draws are inputs, too."""
    if not noise:
        return torch_runner(call, example, inputs, outputs)
    args, kwargs = example
    named = {**kwargs, _NOISE: list(noise.values())}
    given = NoisyCall(call, _NOISE)
    return torch_runner(given, (args, named), [*inputs, *noise], outputs)


def torch_runner(
    call: Callable[..., Any],
    example: tuple[tuple[Any, ...], Mapping[str, Any]],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> Runner:
    """Runs a module by the names that its trace has.

    Args:
        call: the module, or a method of it.
        example: its positional arguments, and those by keyword; other numbers take the place of
            the tensors in them.
        inputs: a name for each of these tensors.
        outputs: a name for each tensor that it returns, in the order in which they flatten.

    Raises ModelError if there are not as many names as tensors: of inputs at once, of outputs when
    it runs.
    """
    leaves, tree = pytree.tree_flatten((tuple(example[0]), dict(example[1])))
    places = [index for index, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
    if len(places) != len(inputs):
        raise ModelError(f"{len(places)} example tensors for the inputs {', '.join(inputs)}")

    def run(given: Mapping[str, np.ndarray]) -> Numbers:
        filled = list(leaves)
        for place, name in zip(places, inputs, strict=True):
            filled[place] = _tensor(given[name], leaves[place])
        its_args, its_kwargs = pytree.tree_unflatten(filled, tree)
        with quiet(), torch.no_grad(), torch.random.fork_rng(devices=[]):
            made = pytree.tree_leaves(call(*its_args, **its_kwargs))
        found = [leaf for leaf in made if isinstance(leaf, torch.Tensor)]
        if len(found) != len(outputs):
            raise ModelError(f"it returned {len(found)} tensors, and {len(outputs)} when traced")
        return {name: _numbers(tensor) for name, tensor in zip(outputs, found, strict=True)}

    return run


def _tensor(array: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """The numbers in a tensor of its own, of the type and on the device of the example's."""
    return torch.tensor(array).to(dtype=like.dtype, device=like.device)


def _numbers(tensor: torch.Tensor) -> np.ndarray:
    plain = tensor.detach().cpu()
    if plain.dtype.is_floating_point and plain.dtype not in _NUMPY_HAS:
        plain = plain.float()
    return plain.numpy().copy()


_NUMPY_HAS = (torch.float16, torch.float32, torch.float64)
