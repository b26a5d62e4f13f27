"""What comes behind a denoise loop, undone: a chunk of commands in the loop's own numbers.

A policy of a checkpoint ends in a phase that cuts the loop's chunk to the robot's columns, and
takes it to the robot's units. To continue a chunk the loop needs it as it was before; so those
operators are walked back from the program's output, and each is undone. A column that is
multiplied by 0 comes back as 0. So does what was cut off, whatever was done to it before, as
LeRobot fills it up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from vlacut.errors import PassError
from vlacut.ir.program import Program
from vlacut_passes.chunking.inverses import (
    FLOATS,
    NUMBERS,
    SHAPES,
    cuts,
    kept_before,
    shape_of,
    undone,
)
from vlacut_passes.chunking.nodes import Nodes, named


@dataclass(frozen=True)
class Behind:
    """Where a chunk comes from.

    Attributes:
        phase: index of the loop.
        name: of the loop's output that is carried.
        steps: from the program's output back to that: each an operator, and the input of it that
            the chunk is; none where the loop's output is the program's.
    """

    phase: int
    name: str
    steps: tuple[tuple[ir.Node, int], ...]

    def undone(self, nodes: Nodes, chunk: ir.Value) -> ir.Value:
        """A chunk as the program's output has it, as the loop has it."""
        kept = np.ones(shape_of(chunk), np.bool_)
        for node, place in self.steps:
            chunk, kept = undone(nodes, chunk, node, place), kept_before(kept, node, place)
        if kept.all():
            return chunk
        assert chunk.dtype is not None
        share = nodes.constant(kept.astype(chunk.dtype.numpy()))
        return nodes.add("Mul", [chunk, share], kept.shape, dtype=chunk.dtype)


def behind(program: Program, output: str) -> Behind:
    """The loop that an output of a program is made by.

    Raises PassError where there is none, or an operator between the two cannot be undone.
    """
    source, steps = program.output_source(output), list[tuple[ir.Node, int]]()
    index, name = source.phase, source.name
    while index is not None:
        phase = program.phases[index]
        if name in phase.carried and phase.trips > 1:
            return Behind(index, name, tuple(steps))
        graph = phase.model.graph
        value = named(graph.outputs, name)
        while value not in graph.inputs:
            node = value.producer()
            place = None if node is None else _chunk_of(node)
            if node is None or place is None:
                break
            steps.append((node, place))
            value = node.inputs[place]  # type: ignore[assignment]
        else:
            source = program.source(index, str(value.name))
            index, name = source.phase, source.name
            continue
        what = (
            f"{node.op_type} in phase {phase.name} cannot be undone" if node else "it is constant"
        )
        raise PassError(_no_loop(program, output, what))
    raise PassError(_no_loop(program, output, f"it comes from input {name}"))


def _no_loop(program: Program, output: str, why: str) -> str:
    loops = [
        f"{phase.name} carries {', '.join(phase.carried)} {phase.trips} times"
        for phase in program.phases
        if phase.carried and phase.trips > 1
    ]
    return f"no loop carries {output}: {why}; {', '.join(loops) or 'no phase is a loop'}"


def _chunk_of(node: ir.Node) -> int | None:
    """Which input of an operator that can be undone is the chunk; None if it cannot be."""
    free = [place for place, one in enumerate(node.inputs) if one and one.const_value is None]
    if len(free) != 1 or node.domain:
        return None
    [place] = free
    chunk, made = node.inputs[place], node.outputs[0]
    assert chunk is not None
    if chunk.shape is None or made.shape is None or made.dtype is None:
        return None
    kind = node.op_type
    if kind in SHAPES or (kind == "Gather" and place == 0):
        # As many numbers, in the same order: all that a picked axis had was one.
        return place if math.prod(shape_of(chunk)) == math.prod(shape_of(made)) else None
    if kind == "Cast":
        both = chunk.dtype in FLOATS and made.dtype in FLOATS
        return place if both else None
    if kind in NUMBERS:
        # A constant that is wider than the chunk repeats it.
        return None if (kind == "Div" and place == 1) or chunk.shape != made.shape else place
    return place if kind == "Slice" and place == 0 and cuts(node) is not None else None
