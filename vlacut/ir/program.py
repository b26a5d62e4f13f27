"""Program and Phase: what a front end hands over.

A VLA step is a program, not one graph. A control step runs its phases in order; a phase runs
`trips` times, with its `carried` outputs fed back as inputs (KV cache, last token, noisy action).
Shapes are static. Phases share a weight by giving its initializer the same name.

An input of a phase is bound, in this order, to
1. the carried value, from the second trip on;
2. the output of that name of an earlier phase (the latest that has one);
3. the program's input of that name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from vlacut.errors import ModelError
from vlacut.plans.instructions import MOST_TRIPS
from vlacut.tensor import TensorSpec

if TYPE_CHECKING:
    import onnx_ir as ir

_NAME = re.compile(r"[A-Za-z0-9_-]+")  # it becomes part of file names and of keys


@dataclass(frozen=True)
class Phase:
    """One graph, run `trips` times per control step.

    Args:
        name: unique in the program.
        model: the operators; inputs and outputs named, shapes static.
        trips: how often a control step runs it, from 1 to `MOST_TRIPS`.
        carried: output name -> input name, fed back from one trip to the next.
    """

    name: str
    model: ir.Model
    trips: int = 1
    carried: Mapping[str, str] = field(default_factory=dict)

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
        for output, fed in self.carried.items():
            if output not in self.output_names or fed not in self.input_names:
                raise ModelError(
                    f"phase {self.name}: carried {output} -> {fed} must lead from an output "
                    f"({', '.join(self.output_names)}) to an input ({', '.join(self.input_names)})"
                )
        if len(set(self.carried.values())) != len(self.carried):
            raise ModelError(f"phase {self.name}: two carried outputs feed one input")

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

    `phase` is the index of an earlier phase, or None for the observation.
    """

    phase: int | None
    name: str


@dataclass(eq=False)
class Program:
    """A VLA control step: observation in, phases in order, action out. Passes change it in place.

    Args:
        name: of the model.
        phases: in the order of execution.
        inputs: the observation.
        outputs: the action: each the output of that name of the latest phase that has one.
        meta: program-level annotations, see `vlacut.ir.annotation`.
    """

    name: str
    phases: tuple[Phase, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    meta: dict[str, Any] = field(default_factory=dict, repr=False)

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
        for index, phase in enumerate(self.phases):
            for name in phase.input_names:
                self.source(index, name)
        for spec in self.outputs:
            self.output_source(spec.name)

    def source(self, phase: int, name: str) -> Producer:
        """What binds an input of a phase on its first trip; ModelError if nothing does."""
        for earlier in range(phase - 1, -1, -1):
            if name in self.phases[earlier].output_names:
                return Producer(earlier, name)
        if any(spec.name == name for spec in self.inputs):
            return Producer(None, name)
        raise ModelError(
            f"program {self.name}, phase {self.phases[phase].name}: nothing binds input {name}; "
            f"add it to the program's inputs, or name an earlier phase's output so"
        )

    def output_source(self, name: str) -> Producer:
        """The phase output that is action `name`; ModelError if no phase has it."""
        for index in range(len(self.phases) - 1, -1, -1):
            if name in self.phases[index].output_names:
                return Producer(index, name)
        raise ModelError(f"program {self.name}: no phase has the output {name}")

    def carried_output(self, phase: int, name: str) -> str | None:
        """The output fed back into input `name` of phase `phase`, or None."""
        found = self.phases[phase]
        if found.trips == 1:
            return None
        return next((output for output, fed in found.carried.items() if fed == name), None)


@dataclass(frozen=True)
class Outline:
    """The size of a model, known without tracing it.

    Attributes:
        phases: trips by name, in the order of execution.
        parameters: all of the checkpoint's, also those that no phase reads.
        weight_bytes: of those, in the model's own types.
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
