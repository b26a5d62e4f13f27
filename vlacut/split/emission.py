"""Emission: every model of a bundle, as files whose weights are in the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path

import onnx_ir as ir

from vlacut.bundle.contents import Binding, WholePhase
from vlacut.hardware import Side
from vlacut.ir.program import Producer, Program
from vlacut.ir.uses import key_of
from vlacut.split.parts import Split, whole


def whole_phases(program: Program) -> tuple[WholePhase, ...]:
    """The uncut phases, as the manifest describes them."""
    return tuple(_whole_phase(program, index) for index in range(len(program.phases)))


def bundle_models(
    program: Program, split: Split, phases: Sequence[WholePhase], uncut: Side = Side.EDGE
) -> Iterator[tuple[str, Side, ir.Model]]:
    """Every model of a bundle with its path and side: the parts, then the uncut phases.

    `uncut` is the side for whose back end these are made.
    """
    for part, model in zip(split.parts, split.models, strict=True):
        yield f"parts/{part.name}.onnx", part.side, model
    for phase, described in zip(program.phases, phases, strict=True):
        keys = [binding.key for binding in described.inputs]
        yield f"whole/{phase.name}.onnx", uncut, whole(phase, keys)


def save(model: ir.Model, path: Path) -> None:
    """Write a model, the same bytes each time."""
    path.parent.mkdir(exist_ok=True)
    model.producer_name, model.producer_version = "vlacut", _own_version()
    path.write_bytes(ir.to_proto(model).SerializeToString(deterministic=True))


@cache
def _own_version() -> str:
    return version("vlacut")


def _whole_phase(program: Program, index: int) -> WholePhase:
    phase = program.phases[index]
    return WholePhase(
        name=phase.name,
        trips=phase.trips,
        inputs=tuple(_binding(program, index, name) for name in phase.input_names),
        outputs=tuple(f"{phase.name}/{name}" for name in phase.output_names),
        on_reset=phase.on_reset,
    )


def _binding(program: Program, phase: int, name: str) -> Binding:
    initial = key_of(program, program.source(phase, name))
    output = program.carried_output(phase, name)
    carried = "" if output is None else key_of(program, Producer(phase, output))
    return Binding(f"{program.phases[phase].name}/{name}", initial, carried)
