"""The front end for torch modules: torch.export, then ONNX.

This is the only module that imports torch.
"""

from __future__ import annotations

import copy
import logging
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import onnx_ir as ir
import torch

from vlacut.annotation import EXAMPLE
from vlacut.errors import ModelError
from vlacut.frontends.normalize import normalize
from vlacut.frontends.shapes import infer_static_shapes
from vlacut.graphs import value_spec
from vlacut.program import Phase, Program
from vlacut.tensor import TensorSpec


@dataclass(frozen=True)
class TorchPhase:
    """One phase as a method of a module."""

    name: str
    module: torch.nn.Module
    inputs: Mapping[str, torch.Tensor]
    outputs: tuple[str, ...]
    method: str = "forward"
    trips: int = 1
    carried: Mapping[str, str] = field(default_factory=dict)


def program_from_torch(
    name: str,
    phases: Sequence[TorchPhase],
    observation: Sequence[str],
    action: Sequence[str],
    opset: int = 20,
) -> Program:
    """Trace a policy."""
    made = tuple(_phase(phase, opset) for phase in phases)
    program = Program(
        name,
        made,
        tuple(_input_spec(name, made, item) for item in observation),
        tuple(_output_spec(name, made, item) for item in action),
    )
    EXAMPLE.put(program, {})
    return program


def _input_spec(program: str, phases: Sequence[Phase], name: str) -> TensorSpec:
    for phase in phases:
        for value in phase.graph.graph.inputs:
            if value.name == name:
                return value_spec(value)
    raise ModelError(f"program {program}: no phase has the input {name}")


def _output_spec(program: str, phases: Sequence[Phase], name: str) -> TensorSpec:
    for phase in reversed(phases):
        for value in phase.graph.graph.outputs:
            if value.name == name:
                return value_spec(value)
    raise ModelError(f"program {program}: no phase has the output {name}")


def _phase(phase: TorchPhase, opset: int) -> Phase:
    with _quiet():
        exported = torch.export.export(
            _bound(phase.module, phase.method), tuple(phase.inputs.values()), strict=False
        )
        made = torch.onnx.export(
            exported, dynamo=True, optimize=False, verbose=False, opset_version=opset
        )
    model: ir.Model = made.model
    graph = model.graph
    graph.name = phase.name
    for initializer in graph.initializers.values():
        if initializer.const_value.raw.device.type == "meta":
            initializer.const_value = None
    for value, name in zip(graph.inputs, phase.inputs, strict=True):
        value.name = name
    normalize(model, f"phase {phase.name}")
    for value, name in zip(graph.outputs, phase.outputs, strict=True):
        value.name = name
    infer_static_shapes(model, f"phase {phase.name}")
    return Phase(phase.name, model, phase.trips, phase.carried)


def _bound(module: torch.nn.Module, method: str) -> torch.nn.Module:
    """The module with a method of it as its forward; parameters and their names are the same."""
    if method == "forward":
        return module
    twin = copy.copy(module)  # shares parameters, buffers and submodules
    twin.forward = types.MethodType(getattr(type(module), method), twin)
    return twin


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's chatter from the user: its warnings are about torch's own code."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
