"""The program of a tick: the phases of a control step with several requests in flight.

A request of age 0 is that of this step's observation. What a request needs later is state: under a
name for every age, so that from one step to the next only names move. What it reads and does not
write, as a prefix that every trip attends to, is handed on by an Identity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx_ir as ir

from vlacut.errors import PassError
from vlacut.ir.extracting import Extract
from vlacut.ir.phase_roll import Names
from vlacut.ir.program import Phase, Program
from vlacut.ir.state import State
from vlacut_passes.pipelining.course import Course

Held = dict[str, str]  # inputs of the loop, by the name of the tensor that a request has there


class InFlightProgram:
    """Makes the phases and the states of a tick.

    Args:
        program: whose loop it is.
        index: of the loop's phase.
        course: of the requests. With `prefilled` the phase before the loop is in the first pass.

    Attributes:
        phases: of the tick.
        states: what is in flight between two.
    """

    def __init__(self, program: Program, index: int, course: Course) -> None:
        self._program, self._index, self._course = program, index, course
        self._loop = program.phases[index]
        self._names = Names(program)
        self._inputs = {str(value.name): value for value in self._loop.model.graph.inputs}
        self._carried = dict(self._loop.carried)
        self._after = program.phases[index + 1 :]
        self._slots: dict[tuple[str, int], str] = {}
        self._handed: dict[str, tuple[str, ir.Value]] = {}  # output -> the input it hands on
        self._delayed = self._read_later()
        self._held = [self._begun(age) for age in range(course.ticks)]
        begin = index - course.prefilled
        passes = [self._pass(number) for number in range(course.more + 1)]
        self.states = tuple(self._states())
        self.phases = (
            *(one for one in program.phases[:begin] if one.on_reset),
            *self._handing_on(),
            *(one for one in program.phases[:begin] if not one.on_reset),
            *passes,
            *self._after,
        )

    def _slot(self, name: str, age: int) -> str:
        """The state that a request of an age has in the place of a name."""
        key = name, age
        if key not in self._slots:
            self._slots[key] = self._names.free(f"{name}.age{age}")
        return self._slots[key]

    def _stays(self, name: str) -> bool:
        """Whether a name is the same tensor for every request: what runs on reset made it."""
        return self._program.reset_source(name) is not None

    def _read_later(self) -> dict[str, ir.Value]:
        """What a request reads in a later tick and no trip makes, by name."""
        fed = set(self._carried.values())
        found = {name: value for name, value in self._inputs.items() if name not in fed}
        for offset, phase in enumerate(self._after, self._index + 1):
            for value in phase.model.graph.inputs:
                source = self._program.source(offset, str(value.name))
                if source.phase is None or source.phase < self._index:
                    found.setdefault(str(value.name), value)
        for spec in self._program.outputs:
            source = self._program.output_source(spec.name)
            if source.phase is not None and source.phase < self._index:
                raise PassError(
                    f"action {spec.name} is made before phase {self._loop.name}: it would be of "
                    f"another observation than the rest"
                )
        return {name: value for name, value in found.items() if not self._stays(name)}

    def _begun(self, age: int) -> Held:
        """What a request has at the beginning of a tick."""
        return {
            name: name if age == 0 or self._stays(name) else self._slot(name, age)
            for name in self._inputs
        }

    def _pass(self, number: int) -> Phase:
        """A pass over the weights: a trip of every request that runs one."""
        made = Extract(self._loop.model)
        outputs: dict[str, ir.Value] = {}
        if number == 0 and self._course.prefilled:
            outputs |= self._prefilled(made)
        for age in range(self._course.ticks):
            if self._course.trip(age, number) is not None:
                outputs |= self._trip(made, age, number)
        name = f"{self._loop.name}_tick" + (f"_{number + 1}" if self._course.more else "")
        return made.phase(self._names.free(name), outputs)

    def _prefilled(self, made: Extract) -> dict[str, ir.Value]:
        phase = self._program.phases[self._index - 1]
        for value in phase.model.graph.inputs:
            made.stand_in(value, made.input(str(value.name), value))
        for node in phase.model.graph:
            made.copy(node)
        return {str(value.name): made.value(value) for value in phase.model.graph.outputs}

    def _trip(self, made: Extract, age: int, number: int) -> dict[str, ir.Value]:
        held, graph = self._held[age], self._loop.model.graph
        for name, value in self._inputs.items():
            made.stand_in(value, made.input(held[name], value))
        for node in graph:
            made.copy(node)
        outputs = {}
        ends = self._course.last_pass(age) == number
        for value in graph.outputs:
            output = str(value.name)
            if ends:
                outputs[output] = made.value(value)
            elif output in self._carried:
                name = self._names.free(f"{self._carried[output]}.age{age}.{number + 1}")
                outputs[name] = made.value(value)
                held[self._carried[output]] = name
        return outputs

    def _states(self) -> Iterable[State]:
        """What a request of an age leaves to itself, a tick older."""
        for age in range(self._course.ticks - 1):
            names = [*self._carried.values(), *self._delayed]
            for name in dict.fromkeys(names):
                left = self._held[age].get(name, name if age == 0 else self._slot(name, age))
                yield State(self._made(left, name, age), self._slot(name, age + 1))

    def _made(self, left: str, name: str, age: int) -> str:
        """The output that a state is: what a phase made, or what hands on what none did."""
        begun = name if age == 0 else self._slot(name, age)
        if left != begun:
            return left
        if age == 0 and any(name in one.output_names for one in self._program.phases):
            if self._program.output_source(name).phase not in range(self._index):
                raise PassError(f"{name} is made before phase {self._loop.name}, and again later")
            return name
        like = self._inputs[name] if name in self._inputs else self._delayed[name]
        handed = self._slot(f"{name}.kept", age)
        self._handed[handed] = begun, like
        return handed

    def _handing_on(self) -> list[Phase]:
        """The phase that hands on what no trip makes; and who reads later, reads what is old."""
        made = Extract(self._loop.model)
        outputs = {name: made.input(*read) for name, read in self._handed.items()}
        self._rename_readers()
        return [made.phase(self._names.free("handed_on"), outputs)] if outputs else []

    def _rename_readers(self) -> None:
        """Phases behind the loop read what their request had, not what this step's has."""
        oldest = self._course.ticks - 1
        renamed: Mapping[str, str] = {name: self._slot(name, oldest) for name in self._delayed}
        for offset, phase in enumerate(self._after, self._index + 1):
            for value in phase.model.graph.inputs:
                source = self._program.source(offset, str(value.name))
                if source.phase is None or source.phase < self._index:
                    value.name = renamed.get(str(value.name), value.name)
