"""Program and Phase: what a front end hands over.

A VLA step is a program, not one graph. A control step runs its phases in order; a phase runs
`trips` times, with its `carried` outputs fed back as inputs (KV cache, last token, noisy action).
A phase of `when="reset"` runs in the first step of an episode alone, before the others. Shapes are
static. Phases share a weight by giving its initializer the same name.

An input of a phase is bound, in this order, to
1. the carried value, from the second trip on;
2. the output of that name of an earlier phase (the latest that has one) that runs as often;
3. the state of that name, see `vlacut.ir.state`;
4. the program's input of that name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from vlacut.errors import ModelError, suggestion
from vlacut.ir.graphs import value_spec
from vlacut.ir.state import RESET, STEP, WHENS, State
from vlacut.plans.instructions import MOST_TRIPS
from vlacut.tensor import TensorSpec

if TYPE_CHECKING:
    import onnx_ir as ir

_NAME = re.compile(r"[A-Za-z0-9_-]+")  # it becomes part of file names and of keys


@dataclass(frozen=True, repr=False)
class Phase:
    """One graph, run `trips` times per control step.

    Args:
        name: unique in the program.
        model: the operators; inputs and outputs named, shapes static.
        trips: how often a control step runs it, from 1 to `MOST_TRIPS`.
        carried: output name -> input name, fed back from one trip to the next.
        when: `step`, in every control step, or `reset`, in the first one of an episode.

    Raises ModelError, naming the phase, for what is none of these.
    """

    name: str
    model: ir.Model
    trips: int = 1
    carried: Mapping[str, str] = field(default_factory=dict)
    when: str = STEP

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ModelError(
                f"phase name {self.name!r} must be letters, digits, - and _; rename it"
            )
        if not 1 <= self.trips <= MOST_TRIPS:
            raise ModelError(
                f"phase {self.name}: trips is {self.trips}, must be at least 1, and at most "
                f"{MOST_TRIPS}"
            )
        if self.when not in WHENS:
            raise ModelError(
                f"phase {self.name}: when is {self.when!r}, must be {' or '.join(WHENS)}"
            )
        for output, fed in self.carried.items():
            if output not in self.output_names or fed not in self.input_names:
                raise ModelError(
                    f"phase {self.name}: carried {output} -> {fed} must lead from an output "
                    f"({', '.join(self.output_names)}) to an input ({', '.join(self.input_names)})"
                )
        if len(set(self.carried.values())) != len(self.carried):
            raise ModelError(f"phase {self.name}: two carried outputs feed one input")

    def __repr__(self) -> str:
        return f"Phase({self.name} x {self.trips}: {len(self.model.graph)} operators)"

    @property
    def on_reset(self) -> bool:
        """Whether it runs in the first step of an episode alone."""
        return self.when == RESET

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the graph's inputs, in order."""
        return tuple(str(value.name) for value in self.model.graph.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the graph's outputs, in order."""
        return tuple(str(value.name) for value in self.model.graph.outputs)


@dataclass(frozen=True)
class Producer:
    """Where a phase's input comes from when the phase starts.

    `phase` is the index of an earlier phase, or None for the observation and for state.
    """

    phase: int | None
    name: str


@dataclass(eq=False, repr=False)
class Program:
    """A VLA control step: observation in, phases in order, action out. Passes change it in place.

    Args:
        name: of the model.
        phases: in the order of execution.
        inputs: the observation.
        outputs: the action. Each is the output of that name of the latest phase that has one.
        meta: program-level annotations, see `vlacut.ir.annotation`.
        state: what a step leaves to the next; `states` has also what stays from a reset on.

    Raises ModelError, naming the phase and the tensor, where names or specs do not fit together.
    """

    name: str
    phases: tuple[Phase, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    meta: dict[str, Any] = field(default_factory=dict, repr=False)
    state: tuple[State, ...] = ()

    def __post_init__(self) -> None:
        names = [phase.name for phase in self.phases]
        if not names:
            raise ModelError(f"program {self.name} has no phase")
        if len(set(names)) != len(names):
            raise ModelError(f"program {self.name}: two phases share a name: {', '.join(names)}")
        for what, specs in (("inputs", self.inputs), ("outputs", self.outputs)):
            listed = [spec.name for spec in specs]
            if len(set(listed)) != len(listed):
                raise ModelError(
                    f"program {self.name}: two {what} share a name: {', '.join(listed)}"
                )
        if not self.outputs:
            raise ModelError(f"program {self.name} has no output; a step must make an action")
        for spec in self.inputs:
            if spec.name.partition("/")[0] in names:
                raise ModelError(
                    f"program {self.name}: input {spec.name} is named like a phase's output; "
                    f"rename it"
                )
        self._check_phases()
        self._check_state()
        for index, phase in enumerate(self.phases):
            for name in phase.input_names:
                self.source(index, name)
        for spec in self.outputs:
            if self.phases[found := self._latest(spec.name)].on_reset:
                raise ModelError(
                    f"program {self.name}: action {spec.name} is made by phase "
                    f"{self.phases[found].name}, which runs on reset alone"
                )

    def keep(self, states: tuple[State, ...]) -> None:
        """Add state that was observation and action before, in place; ModelError as for a new
        program.
        """
        fed = {state.input for state in states}
        made = {state.output for state in states}
        self.inputs = tuple(spec for spec in self.inputs if spec.name not in fed)
        self.outputs = tuple(spec for spec in self.outputs if spec.name not in made)
        self.state = (*self.state, *states)
        self.__post_init__()

    def _check_phases(self) -> None:
        resets = [phase.on_reset for phase in self.phases]
        if resets != sorted(resets, reverse=True) or all(resets):
            raise ModelError(
                f"program {self.name}: phases of when=reset come first, and one of every step after"
            )

    def _check_state(self) -> None:
        """Every state leads from an output of a step to an input of its type and shape."""
        where = f"program {self.name}"
        fed = [state.input for state in self.state]
        twice = next((name for name in fed if fed.count(name) > 1), None)
        if twice is not None:
            outputs = [state.output for state in self.state if state.input == twice]
            raise ModelError(
                f"{where}: two outputs feed state {twice}: {', '.join(outputs)}; keep one"
            )
        made = {name for phase in self._in_steps for name in phase.output_names}
        read = {name for phase in self._in_steps for name in phase.input_names}
        observed = {spec.name for spec in self.inputs}
        for state in self.state:
            named = f"{where}: state {state.output} -> {state.input}"
            if state.output not in made:
                raise ModelError(
                    f"{named}: no phase of every step has the output {state.output}; "
                    f"{suggestion(state.output, made)}"
                )
            if state.input not in read:
                raise ModelError(
                    f"{named}: no phase of every step has the input {state.input}; "
                    f"{suggestion(state.input, read)}"
                )
            if state.input in observed or state.input in made:
                other = "the observation has" if state.input in observed else "a phase makes"
                raise ModelError(f"{named}: {other} a {state.input} too; rename one of the two")
            self._check_spec(state, named)

    def _check_spec(self, state: State, named: str) -> None:
        spec = self.state_spec(state)
        for phase in self.phases:
            for value in phase.model.graph.inputs:
                if value.name == state.input:
                    found = value_spec(value)
                    if (found.dtype, found.shape) != (spec.dtype, spec.shape):
                        raise ModelError(
                            f"{named}: the output is {spec.dtype}{list(spec.shape)}, the input "
                            f"{found.dtype}{list(found.shape)}; they must be alike"
                        )
        state.first(spec)

    @property
    def _in_steps(self) -> list[Phase]:
        return [phase for phase in self.phases if not phase.on_reset]

    @property
    def states(self) -> tuple[State, ...]:
        """All state: `state`, and what phases that run on reset make for those of every step."""
        known = {state.input for state in self.state}
        kept: dict[str, State] = {}
        for index, phase in enumerate(self.phases):
            for name in () if phase.on_reset else phase.input_names:
                if self.reset_source(name) is not None and self._made_before(index, name) is None:
                    kept.setdefault(name, State("", name))
        return (*self.state, *(state for name, state in kept.items() if name not in known))

    def state_of(self, name: str) -> State | None:
        """The state that phases read as input `name`, or None."""
        return next((state for state in self.states if state.input == name), None)

    def state_source(self, state: State) -> Producer | None:
        """The phase output that becomes the state in the next step; None if it stays as it is."""
        return self.output_source(state.output) if state.output else None

    def reset_source(self, name: str) -> Producer | None:
        """The output of that name of a phase that runs on reset; None if there is none."""
        for index in range(len(self.phases) - 1, -1, -1):
            if self.phases[index].on_reset and name in self.phases[index].output_names:
                return Producer(index, name)
        return None

    def state_spec(self, state: State) -> TensorSpec:
        """Spec of a state, under the name of its input."""
        source = self.state_source(state) or self.reset_source(state.input)
        assert source is not None
        assert source.phase is not None
        outputs = self.phases[source.phase].model.graph.outputs
        return value_spec(next(one for one in outputs if one.name == source.name), state.input)

    def _made_before(self, phase: int, name: str) -> int | None:
        """The latest phase before that makes a tensor of that name whenever this one runs."""
        for earlier in range(phase - 1, -1, -1):
            found = self.phases[earlier]
            if name in found.output_names and found.on_reset is self.phases[phase].on_reset:
                return earlier
        return None

    def __repr__(self) -> str:
        phases = ", ".join(
            phase.name + (f" x {phase.trips}" if phase.trips > 1 else "") for phase in self.phases
        )
        given, made = (", ".join(map(str, specs)) for specs in (self.inputs, self.outputs))
        return f"Program({self.name}: {phases}; ({given}) -> ({made}))"

    def summary(self) -> str:
        """A line for each phase: its trips, operators, inputs and outputs."""
        lines = [repr(self)]
        for phase in self.phases:
            trips = f" x {phase.trips}" if phase.trips > 1 else ""
            lines.append(
                f"  {phase.name}{trips}: {len(phase.model.graph)} operators, "
                f"{', '.join(phase.input_names) or 'nothing'} -> {', '.join(phase.output_names)}"
            )
        return "\n".join(lines)

    def source(self, phase: int, name: str) -> Producer:
        """What binds an input of a phase on its first trip; ModelError if nothing does."""
        earlier = self._made_before(phase, name)
        if earlier is not None:
            return Producer(earlier, name)
        remembered = not self.phases[phase].on_reset and (
            self.reset_source(name) is not None or any(name == one.input for one in self.state)
        )
        if remembered or any(spec.name == name for spec in self.inputs):
            return Producer(None, name)
        raise ModelError(
            f"program {self.name}, phase {self.phases[phase].name}: nothing binds input {name}; "
            f"add it to the program's inputs, or name an earlier phase's output so"
        )

    def output_source(self, name: str) -> Producer:
        """The phase output that is action `name`; ModelError if no phase has it."""
        return Producer(self._latest(name), name)

    def _latest(self, name: str) -> int:
        for index in range(len(self.phases) - 1, -1, -1):
            if name in self.phases[index].output_names:
                return index
        raise ModelError(f"program {self.name}: no phase has the output {name}")

    def carried_output(self, phase: int, name: str) -> str | None:
        """The output fed back into input `name` of phase `phase`, or None."""
        found = self.phases[phase]
        if found.trips == 1:
            return None
        return next((output for output, fed in found.carried.items() if fed == name), None)


def copied(program: Program) -> Program:
    """A copy that passes may change: its operators are its own, its weights the same tensors."""
    phases = tuple(replace(phase, model=phase.model.clone()) for phase in program.phases)
    return replace(program, phases=phases, meta=dict(program.meta))


@dataclass(frozen=True)
class Outline:
    """The size of a model, known without tracing it.

    Attributes:
        phases: trips by name, in the order of execution.
        parameters: how many the checkpoint has, including those that no phase reads.
        weight_bytes: their bytes, in the model's own types.
    """

    phases: Mapping[str, int]
    parameters: int
    weight_bytes: int


class Model(Protocol):
    """A model of the zoo; the first line of its docstring says what it is.

    Attributes:
        presets: names of its presets; `full` is the one without a name.
    """

    presets: tuple[str, ...]

    def __call__(self, preset: str) -> Program:
        """The traced program of a preset."""

    def outline(self, preset: str) -> Outline:
        """The size of a preset, quickly."""
