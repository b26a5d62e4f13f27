"""The model's own control step, phase by phase, with the uncut program beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from vlacut.backend import Engine
from vlacut.bundle.contents import WholePhase
from vlacut.compiler.model_check.differences import EXAMPLE, Arrays, Difference, differences, plain
from vlacut.errors import BackendError, ModelDiffers, ModelError, Progress, one_line
from vlacut.ir.elements import carried
from vlacut.ir.graphs import value_spec
from vlacut.ir.original import Original, Runner
from vlacut.ir.program import Program
from vlacut.ir.uses import key_of
from vlacut.runtime.whole import run_whole
from vlacut.split.observations import initial_of
from vlacut.split.parts import whole_states
from vlacut.tensor import TensorSpec
from vlacut.tensor.numerics import synthetic

_MOST_TRIPS = 256
_STATE_SEED = 7
_MAX_REASON = 200


class NotTaken(Exception):
    """The model itself raised on what it was given."""


class Walk:
    """The model's own control step, with every phase of the uncut program beside it."""

    def __init__(
        self,
        program: Program,
        original: Original,
        phases: Sequence[WholePhase],
        engines: Mapping[str, Engine],
        progress: Progress,
    ) -> None:
        self._program, self._progress = program, progress
        self._original, self._phases, self._engines = original, phases, engines
        self._specs: dict[str, TensorSpec] = {spec.name: spec for spec in program.inputs}
        self._states = whole_states(program)
        self._initial = initial_of(program)
        self._specs |= {one.input: program.state_spec(one) for one in program.states}
        for phase in program.phases:
            for value in (*phase.model.graph.inputs, *phase.model.graph.outputs):
                key = f"{phase.name}/{value.name}"
                self._specs[key] = value_spec(value, key)

    def run(self, observation: Arrays, which: str) -> Iterator[Difference]:
        """Every output that is compared. Raises NotTaken if the model does not take it, where it
        is a variation; what the model raised where it is the example.
        """
        # Beside the example, in the middle of an episode: state is drawn, too.
        state = {
            key: initial if which == EXAMPLE else synthetic(self._specs[key], _STATE_SEED)
            for key, initial in self._initial.items()
        }
        begun = {**observation, **state}
        if self._original.step is not None:
            yield from self._whole(self._original.step, begun, which)
            return
        held = {name: plain(array, self._specs[name]) for name, array in begun.items()}
        most = _MOST_TRIPS if which == EXAMPLE else 2
        done, runs = 0, sum(min(phase.trips, most) for phase in self._phases)
        for phase in self._phases:
            held |= {one.key: held[one.initial] for one in phase.inputs}
            trips = min(phase.trips, most)
            for trip in range(trips):
                self._progress(f"model check, {which.partition(',')[0]}", done, runs)
                done += 1
                given = {one.key: held[one.key] for one in phase.inputs}
                made = self._model(phase, given, which)
                if trip in (0, trips - 1):
                    run = which + (f", trip {trip + 1} of {phase.trips}" if trips > 1 else "")
                    yield from self._compared(phase, given, made, run)
                held |= made | self._added(phase, given, made, which)
                held |= {one.key: held[one.carried] for one in phase.inputs if one.carried}
            if phase.on_reset:
                made_here = [one for one in self._states if one.reset in phase.outputs]
                held |= {one.key: held[one.reset] for one in made_here}

    def _whole(self, step: Runner, begun: Arrays, which: str) -> Iterator[Difference]:
        """A control step as a whole: of a loop that was rolled, the model has no phases."""
        self._progress("model check", 0, 1)
        given = {name: plain(array, self._specs[name]) for name, array in begun.items()}
        try:
            made = step(given)
        except Exception as error:  # as in `_model`
            raise self._raised("the model", error, which) from error
        tensors = run_whole(self._phases, self._engines, begun)
        program = self._program
        named = {spec.name: program.output_source(spec.name) for spec in program.outputs}
        named |= {one.output: program.output_source(one.output) for one in program.state}
        keys = {name: key_of(program, source) for name, source in named.items()}
        mine = {keys[name]: tensors[keys[name]] for name in named}
        theirs = {keys[name]: made[name] for name in named}
        yield from differences(mine, theirs, self._specs, self._original.what, which)

    def _raised(self, what: str, error: Exception, which: str) -> Exception:
        reason = one_line(f"{type(error).__name__}: {error}")[:_MAX_REASON]
        if which != EXAMPLE:
            return NotTaken(reason)
        return ModelError(
            f"{what} of {self._original.what} raises on the example: {reason}; --no-model-check "
            f"does not run it"
        )

    def _model(self, phase: WholePhase, given: Arrays, which: str) -> dict[str, np.ndarray]:
        named = {key.partition("/")[2]: array for key, array in given.items()}
        try:
            made = self._original.phases[phase.name](named)
        except Exception as error:  # it is the user's code, on numbers that the user did not choose
            raise self._raised(f"phase {phase.name}", error, which) from error
        return {f"{phase.name}/{name}": array for name, array in made.items()}

    def _added(
        self, phase: WholePhase, given: Arrays, made: Arrays, run: str
    ) -> dict[str, np.ndarray]:
        """Outputs that a pass has added, which the model has none of: its own program's."""
        added = [key for key in phase.outputs if key not in made]
        if not added:
            return {}
        typed = {key: carried(array, self._specs[key]) for key, array in given.items()}
        mine = self._run(phase, typed, run)
        return {key: plain(mine[key], self._specs[key]) for key in added}

    def _compared(
        self, phase: WholePhase, given: Arrays, made: Arrays, run: str
    ) -> Iterator[Difference]:
        typed = {key: carried(array, self._specs[key]) for key, array in given.items()}
        mine = self._run(phase, typed, run)
        theirs = {key: made[key] for key in phase.outputs if key in made}
        yield from differences(mine, theirs, self._specs, self._original.what, run)

    def _run(self, phase: WholePhase, given: Arrays, run: str) -> Arrays:
        try:
            return self._engines[phase.name].run(given)
        except BackendError as error:
            raise ModelDiffers(
                f"phase {phase.name} fails on {run}, and {self._original.what} does not: {error}"
            ) from error
