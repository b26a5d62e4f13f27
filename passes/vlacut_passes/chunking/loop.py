"""The graph of a denoise loop, and the chunk in force in it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from vlacut.control.rtc import GUIDANCE, PREV_CHUNK, WEIGHTS
from vlacut.errors import PassError
from vlacut.ir.graphs import value_spec
from vlacut.ir.program import Program
from vlacut.tensor import TensorSpec
from vlacut_passes.chunking.inverses import FLOATS
from vlacut_passes.chunking.nodes import Nodes, named
from vlacut_passes.chunking.undoing import Behind


class Loop:
    """Adds what heeds a chunk to a loop.

    Args:
        program: that it is of.
        output: of the program, that is the chunk.
        behind: where that comes from.
        axis: of time in the output; the one before the last if -1.

    Raises PassError for what is no chunk of commands.
    """

    def __init__(self, program: Program, output: str, behind: Behind, axis: int) -> None:
        self._phase, self._behind = program.phases[behind.phase], behind
        self._graph = self._phase.model.graph
        self._before = named(self._graph.inputs, self._phase.carried[behind.name])
        self._after = after = named(self._graph.outputs, behind.name)
        if after.dtype not in FLOATS or after.shape is None or len(after.shape) < 1:
            raise PassError(f"{behind.name} is {after.dtype} {after.shape}: no chunk of commands")
        self._nodes = Nodes(self._graph, after.dtype)
        self._spec = value_spec(after)
        made = next(spec for spec in program.outputs if spec.name == output)
        self._chunk = replace(made, name=PREV_CHUNK)  # as the robot has it
        rank, inner = len(made.shape), len(self._spec.shape)
        at = max(0, rank - 2) if axis == -1 else axis
        if not 0 <= at < rank:
            raise PassError(f"{output} has no axis {axis}: its shape is {list(made.shape)}")
        # What is behind a loop takes leading axes of 1 away, so that both end alike.
        self._axis, self._length = at + inner - rank, made.shape[at]
        if not 0 <= self._axis < inner or self._spec.shape[self._axis] != self._length:
            raise PassError(
                f"{output} has {self._length} commands, and {behind.name} of the loop, "
                f"{list(self._spec.shape)}, not so many there"
            )
        self._along = tuple(self._length if one == self._axis else 1 for one in range(inner))

    def guide(self) -> tuple[TensorSpec, ...]:
        """Add the guidance; the specs of the new inputs."""
        if not self._is_euler():
            raise PassError(
                f"the loop of phase {self._phase.name} does not go from {self._before.name} by "
                f"adding a step to it, as a flow does: where it ends is not known ahead; "
                f"--real-time-chunking prefix needs no flow"
            )
        prev, weights = self._add_chunk()
        nodes, trips, shape = self._nodes, self._phase.trips, self._spec.shape
        guidance = TensorSpec(GUIDANCE, self._spec.dtype, (trips, 2))
        table = nodes.input(guidance, nodes.dtype)
        first = nodes.slice(table, 0, 1, (1, 2))
        others = nodes.slice(table, 1, trips, (trips - 1, 2))
        following = nodes.add("Concat", [others, first], guidance.shape, {"axis": 0})
        following.name = f"{GUIDANCE}.next"
        self._graph.outputs.append(following)
        flat = nodes.reshape(first, [2])
        gain, left = nodes.slice(flat, 0, 1, (1,)), nodes.slice(flat, 1, 2, (1,))
        x, y = self._before, self._renamed_output()
        step = nodes.add("Sub", [y, x], shape)
        rest = nodes.add("Mul", [step, left], shape)
        end = nodes.add("Add", [x, rest], shape)
        apart = nodes.add("Sub", [prev, end], shape)
        pull = nodes.add("Mul", [weights, gain], self._along)
        pulled = nodes.add("Mul", [apart, pull], shape)
        guided = nodes.add("Add", [y, pulled], shape)
        self._output("Where", [self._zero(weights), y, guided])
        return (*self._new_specs(), guidance)

    def fix(self, time: str) -> tuple[TensorSpec, ...]:
        """Add the hard prefix; the specs of the new inputs."""
        readers = list(self._before.uses())
        prev, weights = self._add_chunk()
        free = self._zero(weights)
        entered = self._nodes.add("Where", [free, self._before, prev], self._spec.shape)
        for node, place in readers:
            node.replace_input_with(place, entered)
        if time:
            self._fix_time(time, free)
        self._nodes.front()
        y = self._renamed_output()
        self._output("Where", [free, y, prev])
        return self._new_specs()

    def _fix_time(self, time: str, free: ir.Value) -> None:
        value = named(self._graph.inputs, time)
        shape = value_spec(value).shape
        if math.prod(shape) != self._length or value.dtype not in FLOATS:
            raise PassError(
                f"{time} holds no time for each of {self._length} commands: {list(shape)}"
            )
        readers = list(value.uses())
        flat = self._nodes.reshape(free, shape)
        nothing = self._nodes.constant(np.zeros((), value.dtype.numpy()))
        clean = self._nodes.add("Where", [flat, value, nothing], shape, dtype=value.dtype)
        for node, place in readers:
            node.replace_input_with(place, clean)

    def _is_euler(self) -> bool:
        """Whether the loop's output is its input and something, or less something."""
        node = _uncast(self._after).producer()
        inputs = [] if node is None else [_uncast(one) for one in node.inputs if one is not None]
        if node is None or node.op_type not in ("Add", "Sub"):
            return False
        return self._before in (inputs if node.op_type == "Add" else inputs[:1])

    def _add_chunk(self) -> tuple[ir.Value, ir.Value]:
        """The old chunk in the loop's numbers, and the weights along its axes."""
        nodes = self._nodes
        steps = self._behind.steps
        dtype = steps[0][0].outputs[0].dtype if steps else nodes.dtype
        prev = nodes.input(self._chunk, dtype or nodes.dtype)
        flat = nodes.input(self._new_specs()[1], nodes.dtype)
        return self._behind.undone(nodes, prev), nodes.reshape(flat, self._along)

    def _new_specs(self) -> tuple[TensorSpec, TensorSpec]:
        return self._chunk, TensorSpec(WEIGHTS, self._spec.dtype, (self._length,))

    def _zero(self, weights: ir.Value) -> ir.Value:
        """Where the weights are 0, or less."""
        nodes, true = self._nodes, ir.DataType.BOOL
        nothing = nodes.constant(np.zeros((), nodes.dtype.numpy()))
        above = nodes.add("Greater", [weights, nothing], self._along, dtype=true)
        return nodes.add("Not", [above], self._along, dtype=true)

    def _renamed_output(self) -> ir.Value:
        """What the loop made, under another name; its own is free."""
        self._after.name = f"{self._after.name}.unguided"
        return self._after

    def _output(self, kind: str, inputs: list[ir.Value]) -> None:
        made = self._nodes.add(kind, inputs, self._spec.shape)
        for place, value in enumerate(self._graph.outputs):
            if value is self._after:
                self._graph.outputs[place] = made
        made.name = self._spec.name


def _uncast(value: ir.Value) -> ir.Value:
    """A value before its type was changed."""
    node = value.producer()
    while node is not None and node.op_type == "Cast" and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    return value
