"""measured-cost: prefers what was measured to what the device model says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import onnx_ir as ir

from vlacut.bundle.costs import MeasuredPart, read_costs
from vlacut.errors import InputError
from vlacut.hardware import Side, load_device
from vlacut.ir.annotation import MEASURED, SECONDS, Seconds
from vlacut.ir.fingerprint import fingerprint
from vlacut.ir.graphs import node_inputs, operators
from vlacut.ir.program import Phase, Program


@dataclass(frozen=True)
class MeasuredCost:
    """Scales SECONDS by what `vlacut profile` measured, so that cuts near the measured one profit.

    The operators of a measured part keep their shares of its time, and add up to the measured time.
    All other operators of that side are scaled by one factor: the measured time of all its parts
    over their predicted time. Needs annotate-cost; run it once per file.

    Options:
        costs: a file that `vlacut profile` wrote.
        edge, cloud: as for annotate-cost; costs measured on another device are refused.
    """

    name: ClassVar[str] = "measured-cost"
    costs: str = "costs.json"
    edge: str = "jetson-agx-orin"
    cloud: str = "a100"

    def run(self, program: Program) -> None:
        """See `vlacut.ir.pipeline.Pass`. Raises InputError for costs of another model or device."""
        found = read_costs(Path(self.costs))
        devices = {Side.EDGE: self.edge, Side.CLOUD: self.cloud}
        for side, device in devices.items():
            parts = [part for part in found.parts if part.side is side]
            if parts:
                self._check_device(parts, load_device(device).name)
                _scale_side(program, parts, side, self.costs)

    def _check_device(self, parts: Iterable[MeasuredPart], device: str) -> None:
        for part in parts:
            if part.device != device:
                raise InputError(
                    f"{self.costs}: part {part.name} was measured on {part.device}, and the "
                    f"{part.side} is {device}; run vlacut profile there"
                )


def _scale_side(program: Program, parts: Iterable[MeasuredPart], side: Side, file: str) -> None:
    measured_s = predicted_s = 0.0
    phases = {phase.name: phase for phase in program.phases}
    for part in parts:
        nodes = _nodes(phases, part, file)
        modelled = sum(_seconds(node, side) for node in nodes)
        for node in nodes:
            share = _seconds(node, side) / modelled if modelled else 1 / len(nodes)
            _put(node, side, part.seconds * share)
            MEASURED.put(node, tuple(dict.fromkeys((*(MEASURED.find(node) or ()), side))))
        measured_s, predicted_s = measured_s + part.seconds, predicted_s + modelled
    for node in (node for phase in program.phases for node in operators(phase.model.graph)):
        if predicted_s and side not in (MEASURED.find(node) or ()):
            _put(node, side, _seconds(node, side) * measured_s / predicted_s)


def _nodes(phases: Mapping[str, Phase], part: MeasuredPart, file: str) -> list[ir.Node]:
    """The operators between a part's outputs and its inputs."""
    phase = phases.get(part.phase)
    found = _between(phase, part) if phase is not None else []
    if not found or fingerprint(found) != part.digest:
        raise InputError(
            f"{file}: part {part.name} is no part of this model (another model or preset, or other "
            f"element types); compile it and run vlacut profile again"
        )
    return found


def _between(phase: Phase, part: MeasuredPart) -> list[ir.Node]:
    graph = phase.model.graph
    wanted, inside = set(part.outputs), set[ir.Node]()
    stack = [
        value
        for node in operators(graph)
        for value in node.outputs
        if f"{phase.name}/{value.name}" in wanted
    ]
    entering = set(part.inputs)
    while stack:
        node = stack.pop().producer()
        if node is not None and node not in inside:
            inside.add(node)
            stack += [
                value for value in node_inputs(node) if f"{phase.name}/{value.name}" not in entering
            ]
    return [node for node in operators(graph) if node in inside]


def _seconds(node: ir.Node, side: Side) -> float:
    time = SECONDS.get(node)
    return time.edge if side is Side.EDGE else time.cloud


def _put(node: ir.Node, side: Side, seconds: float) -> None:
    time: Seconds = SECONDS.get(node)
    made = replace(time, edge=seconds) if side is Side.EDGE else replace(time, cloud=seconds)
    SECONDS.put(node, made)
