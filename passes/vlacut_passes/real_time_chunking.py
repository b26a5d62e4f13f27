"""real-time-chunking: a denoise loop that continues the chunk in force."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from vlacut.control.rtc import GUIDANCE, GUIDED, MODES, PREV_CHUNK, WEIGHTS
from vlacut.errors import PassError, suggestion
from vlacut.ir.annotation import EXAMPLE
from vlacut.ir.graphs import value_spec
from vlacut.ir.program import Phase, Program
from vlacut.ir.rewriting import constant
from vlacut.tensor import TensorSpec

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)


@dataclass(frozen=True)
class RealTimeChunking:
    """Adds inputs by which a loop that carries a chunk from noise to actions heeds another chunk.

    `guided`: after every step x -> y of the loop, as in real-time chunking without its backward
    pass (Black et al., arXiv 2506.07339; what LeRobot ships is elementwise),

        y' = y + gain w (prev_chunk - (x + left (y - x)))     where w is not 0, else y

    where x + left (y - x) is where the loop would end if it went on as in this step: `left` is how
    many steps are left, this one included. `prefix_weights` [T] are w, along time; `guidance` has
    gain and left of every step [trips, 2].

    `prefix`: where w is above 0 the chunk is `prev_chunk` in every step, as training-time
    real-time chunking has it (arXiv 2512.05964); `time` names an input of the loop that holds a
    time for every command, [1, T], which is 0 there.

    With weights of 0 the bits are those of the program as it was. All of it is elementwise on the
    chunk, so that it is wherever the loop is; `vlacut.control.rtc` makes these inputs on the robot.

    Attributes:
        mode: `guided` or `prefix`.
        output: of the program, that is the chunk; its first, if empty.
        axis: of time; the one before the last if -1.
        time: see above; none if empty.

    Raises PassError where no loop carries the output, or an input of such a name is there already.
    """

    name: ClassVar[str] = "real-time-chunking"
    mode: str = GUIDED
    output: str = ""
    axis: int = -1
    time: str = ""

    def run(self, program: Program) -> None:
        """See `vlacut.ir.pipeline.Pass`."""
        if self.mode not in MODES:
            raise PassError(f"real-time-chunking has the modes {', '.join(MODES)}, not {self.mode}")
        names = [spec.name for spec in program.outputs]
        output = self.output or names[0]
        if output not in names:
            raise PassError(f"the program has no output {output!r}; {suggestion(output, names)}")
        index = program.output_source(output).phase
        assert index is not None
        phase = program.phases[index]
        if output not in phase.carried or phase.trips < 2:
            raise PassError(
                f"no loop carries {output}: phase {phase.name} runs {phase.trips} times and "
                f"carries {', '.join(phase.carried) or 'nothing'}"
            )
        taken = {spec.name for spec in program.inputs}
        for other in program.phases:
            taken.update(other.input_names, other.output_names)
        clash = taken.intersection((PREV_CHUNK, WEIGHTS, GUIDANCE, f"{GUIDANCE}.next"))
        if clash:
            raise PassError(f"the program has a tensor {sorted(clash)[0]} already")
        loop = _Loop(phase, output, self.axis)
        carried = dict(phase.carried)
        if self.mode == GUIDED:
            specs = loop.guide()
            carried[f"{GUIDANCE}.next"] = GUIDANCE
        else:
            specs = loop.fix(self.time)
        phases = list(program.phases)
        phases[index] = replace(phase, carried=carried)
        program.phases = tuple(phases)
        program.inputs = (*program.inputs, *specs)
        # An example without a chunk in force: what is measured on it is the program as it was.
        nothing = {one.name: np.zeros(one.numpy_shape, one.numpy_dtype) for one in specs}
        EXAMPLE.put(program, {**(EXAMPLE.find(program) or {}), **nothing})


class _Loop:
    """The graph of a loop, and the chunk in it."""

    def __init__(self, phase: Phase, output: str, axis: int) -> None:
        self._phase, self._graph = phase, phase.model.graph
        self._before = _named(self._graph.inputs, phase.carried[output])
        self._after = _named(self._graph.outputs, output)
        after = self._after
        if after.dtype not in _FLOATS or after.shape is None or len(after.shape) < 1:
            raise PassError(f"{output} is {after.dtype} {after.shape}: no chunk of commands")
        self._dtype = after.dtype
        self._spec = value_spec(after)
        rank = len(self._spec.shape)
        self._axis = max(0, rank - 2) if axis == -1 else axis
        if not 0 <= self._axis < rank:
            raise PassError(f"{output} has no axis {axis}: its shape is {list(self._spec.shape)}")

    def guide(self) -> tuple[TensorSpec, ...]:
        """Add the guidance; the specs of the new inputs."""
        prev, weights = self._add_chunk()
        guidance = TensorSpec(GUIDANCE, self._spec.dtype, (self._phase.trips, 2))
        table = self._input(guidance)
        trips = self._phase.trips
        first = self._slice(table, 0, 1, (1, 2))
        others = self._slice(table, 1, trips, (trips - 1, 2))
        following = self._node("Concat", [others, first], {"axis": 0}, guidance.shape)
        following.name = f"{GUIDANCE}.next"
        self._graph.outputs.append(following)
        flat = self._node("Reshape", [first, self._numbers([2])], {}, (2,))
        gain, left = self._slice(flat, 0, 1, (1,)), self._slice(flat, 1, 2, (1,))
        x, y = self._before, self._renamed_output()
        shape = self._spec.shape
        step = self._node("Sub", [y, x], {}, shape)
        rest = self._node("Mul", [step, left], {}, shape)
        end = self._node("Add", [x, rest], {}, shape)
        apart = self._node("Sub", [prev, end], {}, shape)
        pull = self._node("Mul", [weights, gain], {}, self._along)
        pulled = self._node("Mul", [apart, pull], {}, shape)
        guided = self._node("Add", [y, pulled], {}, shape)
        self._output("Where", [self._zero(weights), y, guided])
        return self._new_specs(guidance)

    def fix(self, time: str) -> tuple[TensorSpec, ...]:
        """Add the hard prefix; the specs of the new inputs."""
        readers = list(self._before.uses())
        prev, weights = self._add_chunk()
        free = self._zero(weights)
        entered = self._node("Where", [free, self._before, prev], {}, self._spec.shape)
        for node, place in readers:
            node.replace_input_with(place, entered)
        if time:
            self._fix_time(time, free)
        self._front()
        y = self._renamed_output()
        self._output("Where", [free, y, prev])
        return self._new_specs()

    def _fix_time(self, time: str, free: ir.Value) -> None:
        value = _named(self._graph.inputs, time)
        length = self._spec.shape[self._axis]
        shape = value_spec(value).shape
        if math.prod(shape) != length or value.dtype not in _FLOATS:
            raise PassError(f"{time} holds no time for each of {length} commands: {list(shape)}")
        readers = list(value.uses())
        flat = self._node("Reshape", [free, self._numbers(list(shape))], {}, shape)
        flat.type = ir.TensorType(ir.DataType.BOOL)
        nothing = constant(self._graph, ir.tensor(np.zeros((), value.dtype.numpy())))
        clean = self._node("Where", [flat, value, nothing], {}, shape)
        clean.type = value.type
        for node, place in readers:
            node.replace_input_with(place, clean)

    def _add_chunk(self) -> tuple[ir.Value, ir.Value]:
        """The old chunk, and the weights along the chunk's axes."""
        length, rank = self._spec.shape[self._axis], len(self._spec.shape)
        self._along = tuple(length if axis == self._axis else 1 for axis in range(rank))
        self._added: list[ir.Node] = []
        prev = self._input(replace(self._spec, name=PREV_CHUNK))
        flat = self._input(TensorSpec(WEIGHTS, self._spec.dtype, (length,)))
        along = self._node("Reshape", [flat, self._numbers(list(self._along))], {}, self._along)
        return prev, along

    def _new_specs(self, *more: TensorSpec) -> tuple[TensorSpec, ...]:
        length = self._spec.shape[self._axis]
        weights = TensorSpec(WEIGHTS, self._spec.dtype, (length,))
        return (replace(self._spec, name=PREV_CHUNK), weights, *more)

    def _zero(self, weights: ir.Value) -> ir.Value:
        """Where the weights are 0, or less."""
        nothing = constant(self._graph, ir.tensor(np.zeros((), self._dtype.numpy())))
        above = self._node("Greater", [weights, nothing], {}, self._along)
        above.type = ir.TensorType(ir.DataType.BOOL)
        free = self._node("Not", [above], {}, self._along)
        free.type = ir.TensorType(ir.DataType.BOOL)
        return free

    def _renamed_output(self) -> ir.Value:
        """What the loop made, under another name; its own is free."""
        self._after.name = f"{self._after.name}.unguided"
        return self._after

    def _output(self, kind: str, inputs: list[ir.Value]) -> None:
        made = self._node(kind, inputs, {}, self._spec.shape)
        for place, value in enumerate(self._graph.outputs):
            if value is self._after:
                self._graph.outputs[place] = made
        made.name = self._spec.name

    def _input(self, spec: TensorSpec) -> ir.Value:
        value = ir.Value(
            name=spec.name, shape=ir.Shape(spec.shape), type=ir.TensorType(self._dtype)
        )
        self._graph.inputs.append(value)
        return value

    def _numbers(self, numbers: list[int]) -> ir.Value:
        return constant(self._graph, ir.tensor(np.array(numbers, np.int64)))

    def _node(
        self,
        kind: str,
        inputs: list[ir.Value],
        attributes: Mapping[str, int],
        shape: tuple[int, ...],
    ) -> ir.Value:
        """Add an operator; its output, of the chunk's type."""
        name = f"real_time_chunking.{len(self._added)}"
        node = ir.node(kind, inputs, dict(attributes), name=name)
        made = node.outputs[0]
        made.name, made.type, made.shape = name, ir.TensorType(self._dtype), ir.Shape(shape)
        self._graph.append(node)
        self._added.append(node)
        return made

    def _slice(self, value: ir.Value, start: int, end: int, shape: tuple[int, ...]) -> ir.Value:
        """Some entries along the first axis."""
        inputs = [value, *(self._numbers([one]) for one in (start, end, 0))]
        return self._node("Slice", inputs, {}, shape)

    def _front(self) -> None:
        """What the loop reads comes first."""
        nodes = [node for node in self._added if node.graph is self._graph]
        first = next(node for node in self._graph if node not in nodes)
        self._graph.remove(nodes)
        self._graph.insert_before(first, nodes)


def _named(values: object, name: str) -> ir.Value:
    found = [value for value in values if value.name == name]  # type: ignore[attr-defined]
    if not found:
        raise PassError(f"the loop has no input {name!r}")
    return found[0]  # type: ignore[no-any-return]
