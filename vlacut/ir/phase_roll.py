"""A phase that holds a repeat, as three: what is before the loop, a trip of it, what is behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from vlacut.ir.annotation import NOISE
from vlacut.ir.extracting import Extract
from vlacut.ir.program import Phase, Program
from vlacut.ir.repeats import CARRIED, INSIDE, SAME, Repeat

_TRIP = "trip"


class Names:
    """Names that nothing of a program has yet."""

    def __init__(self, program: Program) -> None:
        self.noise = {one.input: one for one in NOISE.find(program) or ()}
        self.single = len(program.phases) == 1
        self.taken = {phase.name for phase in program.phases}
        self.taken |= {spec.name for spec in (*program.inputs, *program.outputs)}
        for phase in program.phases:
            self.taken |= {*phase.input_names, *phase.output_names}

    def free(self, wanted: str) -> str:
        """The name, or that with a number behind it."""
        name, number = wanted, 1
        while name in self.taken:
            number += 1
            name = f"{wanted}_{number}"
        self.taken.add(name)
        return name

    def phase(self, phase: Phase, what: str) -> str:
        """A name for what becomes of a phase."""
        return self.free(what if self.single else f"{phase.name}_{what}")


class PhaseRoll:
    """The phases that one becomes which holds a repeat.

    Attributes:
        name: of the loop's phase.
        stacks: inputs of the program that are rows of one now, by its name.
    """

    def __init__(self, phase: Phase, repeat: Repeat, names: Names) -> None:
        self._phase, self._repeat, self._names = phase, repeat, names
        graph = phase.model.graph
        self._nodes, self._given = list(graph), set(graph.inputs)
        self._end = repeat.start + repeat.trips * repeat.length
        self._behind_it = set(self._nodes[self._end :])
        self._block = repeat.block(self._nodes, repeat.trips - 1)
        self._last = {value for node in self._block for value in node.outputs}
        self._before = {value for node in self._nodes[: repeat.start] for value in node.outputs}
        self._begins = repeat.begins() or {}
        self._handed: dict[ir.Value, str] = {}  # from one phase to a later one
        self._outputs: dict[str, ir.Value] = {}  # of what is before the loop
        self._stacked: dict[tuple[ir.Value, ...], str] = {}
        self._steps: ir.Value | None = None  # the number of the trip
        self.name = names.phase(phase, "loop")
        self.stacks: dict[str, tuple[str, ...]] = {}

    def phases(self) -> list[Phase]:
        """What is before the loop, the loop, and what is behind, as far as there is any."""
        loop = self._loop()
        behind = self._behind()
        before = self._before_loop()
        return [one for one in (before, loop, behind) if one is not None]

    def _hand(self, value: ir.Value) -> str:
        """The name by which later phases read a value."""
        if value in self._given:
            return str(value.name)
        if value not in self._handed:
            name = str(value.name)
            self._handed[value] = name if value.is_graph_output() else self._names.free(name)
        if value in self._before:
            self._outputs[self._handed[value]] = value
        return self._handed[value]

    def _loop(self) -> Phase:
        made = Extract(self._phase.model)
        carried: dict[str, str] = {}
        rows: dict[tuple[ir.Value, ...], ir.Value] = {}
        lagged = {
            key: [self._lag(made, key, begun) for begun in history]
            for key, history in self._begins.items()
        }
        for at, node in enumerate(self._block):
            given: dict[int, ir.Value] = {}
            for slot, source in enumerate(self._repeat.sources[at]):
                if source is None or source.kind == INSIDE:
                    continue
                if source.kind == CARRIED:
                    given[slot] = lagged[source.node, source.output][source.lag - 1]
                elif source.kind == SAME:
                    given[slot] = self._same(made, source.values[0])
                else:
                    if source.values not in rows:
                        rows[source.values] = self._row(made, source.values)
                    given[slot] = rows[source.values]
            made.copy(node, given)
        outputs = {
            self._hand(value): made.value(value)
            for node in self._block
            for value in node.outputs
            if value.is_graph_output() or self._is_read_behind(value)
        }
        for (number, output), inputs in lagged.items():
            value = self._block[number].outputs[output]
            feeding = made.value(value)
            for lag, one in enumerate(inputs):
                name = self._hand(value) if lag == 0 else self._names.free(f"{one.name}_next")
                outputs[name] = feeding
                carried[name] = str(one.name)
                feeding = one
        if self._steps is not None:
            one = made.constant(np.array(1, np.int64))
            following = self._names.free(f"{self._steps.name}_next")
            outputs[following] = made.add("Add", [self._steps, one], self._steps, None)
            carried[following] = str(self._steps.name)
        repeat = self._repeat
        return made.phase(self.name, outputs, repeat.trips, carried, self._phase.when)

    def _lag(self, made: Extract, key: tuple[int, int], begun: ir.Value) -> ir.Value:
        """The loop's input that an output of a trip before is."""
        like = self._block[key[0]].outputs[key[1]]
        name = self._begins_as(begun)
        if name is None:
            name = self._names.free(f"{begun.name}_first")
            self._outputs[name] = begun
        return made.input(name, like)

    def _begins_as(self, begun: ir.Value) -> str | None:
        """The name of a value that only one carried input begins with, and nothing else reads in
        the loop or behind it; None of others.
        """
        rows = [one for row in self._repeat.sources for one in row if one is not None]
        same = {one.values[0] for one in rows if one.kind == SAME}
        begins = [value for history in self._begins.values() for value in history]
        shared = begun in same or begins.count(begun) > 1 or begun.is_graph_output()
        if shared or begun.is_initializer() or self._is_read_behind(begun):
            return None
        return self._hand(begun)

    def _same(self, made: Extract, value: ir.Value) -> ir.Value:
        if value.is_initializer():
            return made.value(value)
        return made.input(self._hand(value), value)

    def _row(self, made: Extract, values: tuple[ir.Value, ...]) -> ir.Value:
        """The row of a table that is this trip's."""
        if self._steps is None:
            number = ir.Value(type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([]))
            self._steps = made.input(self._names.free(_TRIP), number)
        first = values[0]
        assert first.shape is not None
        shape = (len(values), *first.shape.numpy())
        if first.is_initializer():
            rows = np.stack([_content(value) for value in values])
            table = made.constant(rows, first.dtype)
        else:
            table = made.input(self._stack(values), first, shape)
        return made.add("Gather", [table, self._steps], first, None, axis=0)

    def _stack(self, values: tuple[ir.Value, ...]) -> str:
        """The name of the input of the loop that has a row for each trip."""
        if values not in self._stacked:
            names = [str(value.name) for value in values]
            drawn = {
                replace(self._names.noise[one], input="")
                for one in names
                if one in self._names.noise
            }
            alone = all(len(value.uses()) == 1 for value in values) and len(set(names)) == len(
                names
            )
            if all(one in self._names.noise for one in names) and len(drawn) == 1 and alone:
                self._stacked[values] = names[0]
                self.stacks[names[0]] = tuple(names)
            else:
                self._stacked[values] = self._names.free("rows")
        return self._stacked[values]

    def _is_read_behind(self, value: ir.Value) -> bool:
        return any(use.node in self._behind_it for use in value.uses())

    def _behind(self) -> Phase | None:
        nodes = self._nodes[self._end :]
        made = Extract(self._phase.model)
        for node in nodes:
            for value in node.inputs:
                if value is not None and (
                    value in self._given or value in self._before or value in self._last
                ):
                    made.stand_in(value, made.input(self._hand(value), value))
            made.copy(node)
        inside = {value for node in nodes for value in node.outputs}
        outputs = {
            str(value.name): made.value(value)
            for value in self._phase.model.graph.outputs
            if value in inside
        }
        if not outputs:
            return None
        return made.phase(self._names.phase(self._phase, "after"), outputs, when=self._phase.when)

    def _before_loop(self) -> Phase | None:
        for value in self._phase.model.graph.outputs:
            if value in self._before:
                self._hand(value)
        made = Extract(self._phase.model)
        for value in self._phase.model.graph.inputs:
            made.stand_in(value, made.input(str(value.name), value))
        for node in self._nodes[: self._repeat.start]:
            made.copy(node)
        outputs = {name: made.value(value) for name, value in self._outputs.items()}
        if self._steps is not None:
            outputs[str(self._steps.name)] = made.constant(np.array(0, np.int64))
        for values, name in self._stacked.items():
            if name not in self.stacks:
                outputs[name] = _stacked(made, values)
        if not outputs:
            return None
        return made.phase(self._names.phase(self._phase, "before"), outputs, when=self._phase.when)


def _stacked(made: Extract, values: Sequence[ir.Value]) -> ir.Value:
    first = values[0]
    assert first.shape is not None
    shape = tuple(first.shape.numpy())
    axis = made.constant(np.array([0], np.int64))
    rows = [made.add("Unsqueeze", [made.value(one), axis], first, (1, *shape)) for one in values]
    return made.add("Concat", rows, first, (len(rows), *shape), axis=0)


def _content(value: ir.Value) -> np.ndarray:
    assert value.const_value is not None
    return value.const_value.numpy()
