"""A program of traces: names on its phases, and notes of what the traces depended on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
import torch
from torch.export import ExportedProgram

from vlacut.errors import ModelError
from vlacut.frontends.dimensions import bind_shapes
from vlacut.frontends.exported.fakes import is_real
from vlacut.frontends.normalize import normalize, separate_weights
from vlacut.frontends.shapes import infer_shapes
from vlacut.frontends.torch_original import TorchPhase, tensors
from vlacut.frontends.traceable.granted import Granted
from vlacut.ir.annotation import COUNTED, EXAMPLE, FIXED, NOISE, NOTES, PREMISES
from vlacut.ir.graphs import value_spec
from vlacut.ir.program import Phase, Program
from vlacut.ir.state import State
from vlacut.tensor import TensorSpec
from vlacut.tensor.noise import Noise


@dataclass(frozen=True)
class Traced:
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


def finished(
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


def made_program(
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
        EXAMPLE.put(program, {item: array_of(tensor) for item, tensor in real.items()})
    return program


def _spec(program: str, phases: Sequence[Phase], name: str, kind: str) -> TensorSpec:
    for phase in phases:
        graph = phase.model.graph
        for value in graph.inputs if kind == "input" else graph.outputs:
            if value.name == name:
                return value_spec(value)
    raise ModelError(f"program {program}: no phase has the {kind} {name}")


def say(program: Program, traced: Sequence[Traced], examples: Mapping[str, torch.Tensor]) -> None:
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
        FIXED.put(program, {name: array_of(examples[name]) for name in fixed})


def array_of(tensor: torch.Tensor) -> np.ndarray:
    """The tensor as numpy carries it at run time, see `vlacut.tensor`."""
    plain = tensor.detach().cpu().contiguous()
    if plain.dtype == torch.bfloat16:
        plain = plain.view(torch.uint16)
    return plain.numpy().copy()


def examples_of(exported: ExportedProgram, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """The recorded example inputs that are tensors, by name."""
    if exported.example_inputs is None:
        return {}
    found = tensors(exported.example_inputs)
    return dict(zip(names, found, strict=True)) if len(found) == len(names) else {}
