"""What values a program takes over observations: it is run here, operator by operator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from vlacut.errors import PassError
from vlacut.ir.program import Phase, Program
from vlacut.split.observations import example_observation, held_out
from vlacut.tensor.numerics import probing
from vlacut.tensor.observations import read_observations

Observation = Mapping[str, np.ndarray]
Watched = Mapping[str, Iterable[str]]  # names of values, by phase
_FIRST_SEED = 10_000  # neither the gauge of errors nor verification draws from here on
See = Callable[[str, str, np.ndarray], None]  # of a phase, of a value's name, what it holds


def observations(program: Program, count: int, recorded: str = "") -> list[dict[str, np.ndarray]]:
    """The example, and variations of it up to a count, see `vlacut.tensor.numerics.probing`; or of
    recorded observations, in a file or a folder, as many.

    Errors are measured on others: who fits weights to some observations errs less on them. Of
    recorded ones those are taken that have no part in a bound on the error of codecs.

    Raises InputError for recorded ones that do not fit.
    """
    if recorded:
        found = read_observations(Path(recorded), program.inputs)
        order = np.random.default_rng(0).permutation(len(found))
        mixed = [found[place] for place in order]
        return mixed[: min(count, len(mixed) - len(held_out(mixed)))]
    example = example_observation(program)
    seeds = range(_FIRST_SEED, _FIRST_SEED + count - 1)
    return [example, *(probing(program.inputs, example, seed) for seed in seeds)]


class Observed:
    """A program that runs one control step, the first of an episode, on each of its observations.

    Args:
        program: with content in its weights.
        watched: names of values to be looked at, by phase; those of the top level of a graph.

    Raises PassError where a weight has no content.
    """

    def __init__(
        self, program: Program, watched: Mapping[str, Iterable[str]] | None = None
    ) -> None:
        self._program = program
        self._watched = {
            phase.name: list(dict.fromkeys((watched or {}).get(phase.name, ())))
            for phase in program.phases
        }
        self._evaluators = [
            _evaluator(phase, self._watched[phase.name]) for phase in program.phases
        ]
        self._first = {one.input: one.first(program.state_spec(one)) for one in program.state}

    def step(self, observation: Observation, see: See | None = None) -> dict[str, np.ndarray]:
        """The action; `see` is told every watched value of every trip."""
        held: dict[tuple[int | None, str], np.ndarray] = {
            (None, name): array for name, array in {**self._first, **observation}.items()
        }
        for index, phase in enumerate(self._program.phases):
            self._run(index, phase, held, see)
        made = {}
        for spec in self._program.outputs:
            source = self._program.output_source(spec.name)
            made[spec.name] = held[source.phase, source.name]
        return made

    def _run(
        self,
        index: int,
        phase: Phase,
        held: dict[tuple[int | None, str], np.ndarray],
        see: See | None,
    ) -> None:
        names = self._watched[phase.name] if see else []
        inputs = {}
        for name in phase.input_names:
            source = self._program.source(index, name)
            inputs[name] = held[source.phase, source.name]
        known = {*phase.output_names, *phase.input_names}
        outputs = [*phase.output_names, *(name for name in names if name not in known)]
        for _ in range(phase.trips):
            made = dict(zip(outputs, self._evaluators[index].run(outputs, inputs), strict=True))
            for name in names:
                see(phase.name, name, made[name] if name in made else inputs[name])  # type: ignore[misc]
            inputs |= {fed: made[output] for output, fed in phase.carried.items()}
        held |= {(index, name): made[name] for name in phase.output_names}
        if phase.on_reset:  # phases of every step read it as state
            held |= {(None, name): made[name] for name in phase.output_names}


def _evaluator(phase: Phase, names: Iterable[str]) -> ReferenceEvaluator:
    """Evaluates a phase with some of its values as outputs too."""
    for name, value in phase.model.graph.initializers.items():
        if value.const_value is None:
            raise PassError(
                f"phase {phase.name}: weight {name} has no content to calibrate with; "
                f"give --weights"
            )
    graph = phase.model.graph.clone()
    known = {str(value.name) for value in (*graph.inputs, *graph.outputs)}
    made = {str(value.name): value for node in graph for value in node.outputs}
    graph.outputs.extend(made[name] for name in names if name not in known and name in made)
    for value in graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor):  # the evaluator opens no files
            value.const_value = ir.tensor(value.const_value.numpy(), name=value.name)
    model = ir.Model(graph, ir_version=phase.model.ir_version)
    return ReferenceEvaluator(ir.to_proto(model))
