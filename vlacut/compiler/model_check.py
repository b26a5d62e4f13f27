"""The model check: the uncut program of a bundle against the model that it came from, by numbers.

torch.export and ONNX's exporter can be wrong without a word: they decide a mask while they trace,
or leave a cast out. So model and program both run on the example observation and on two variations
of it. A variation draws floats, whole numbers and masks anew, because an example of ones hides a
mask. If the model does not take that, one variation draws only floats anew. Every phase gets the
inputs that it has in the model itself; so a difference belongs to its phase, and does not grow from
phase to phase. Every output is compared, in the first trip of a loop and in the last.

The cost: on the example, each phase runs as often as in a control step, at most `_MOST_TRIPS`
times. On a variation, a loop runs two trips. The model is already in memory, and the uncut program
maps its weights from the bundle's files. If the weights exceed `_LARGE` bytes, there is one
variation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vlacut.backend import Engine
from vlacut.bundle.contents import WholePhase
from vlacut.bundle.model_check import ModelCheck
from vlacut.errors import (
    BackendError,
    InputError,
    ModelDiffers,
    ModelError,
    Progress,
    one_line,
    unwatched,
)
from vlacut.ir.annotation import COUNTED, FIXED
from vlacut.ir.dataflow import key_of, weights_of
from vlacut.ir.elements import carried, numbers
from vlacut.ir.graphs import value_spec
from vlacut.ir.original import PRECISIONS, Original, Runner, precision_of
from vlacut.ir.program import Program
from vlacut.runtime.whole import run_whole
from vlacut.split.local_execution import example_observation, initial_of
from vlacut.split.parts import whole_states
from vlacut.tensor import TensorSpec
from vlacut.tensor.numerics import (
    FLOATS,
    MASKED,
    largest_difference,
    magnitude,
    probing,
    synthetic,
)

# The largest difference allowed, as a share of the output's largest magnitude. Where types are
# mixed the coarsest counts. Measured: the zoo in float32 stays below 2e-6, in float16 below
# 3e-3, in bfloat16 below 3e-2 (`tools/precision_error.py`). In 4 bits it is what 95 % of random
# stacks of one to six products stay within by GPTQ, 0.511 of 40, rounded down to a tenth; 8 bits
# stay within 0.202 there (`tools/rounding_error.py --random 40`).
TOLERANCES = dict(zip(PRECISIONS, (1e-6, 1e-4, 2e-2, 5e-2, 0.25, 0.5), strict=True))
# In these a choice between two may fall otherwise.
_ROUNDING = ("float16", "bfloat16", "8 bits", "4 bits")
_LARGE = 4 << 30
_MOST_TRIPS = 256
_STATE_SEED = 7
_MAX_REASON = 200
_EXAMPLE = "the example"

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class _Difference:
    """How far one output is off in one run.

    Attributes:
        output: `phase/output`.
        run: `the example, trip 1 of 10`.
        exact: whether it holds whole numbers.
        difference, magnitude: the largest, and the largest of the model's own.
    """

    output: str
    run: str
    exact: bool
    difference: float
    magnitude: float

    @property
    def share(self) -> float:
        """Of the magnitude; infinite where one is no number."""
        if self.difference == 0:
            return 0.0
        share = self.difference / self.magnitude if self.magnitude else math.inf
        return share if share == share else math.inf


def check_tolerance(tolerance: float | None) -> None:
    """Raise InputError for a number that is no tolerance."""
    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise InputError(
            f"--model-tolerance: {tolerance:g}: write a share of an output's magnitude: 0.001"
        )


def check_model(
    program: Program,
    original: Original,
    phases: Sequence[WholePhase],
    engines: Mapping[str, Engine],
    tolerance: float | None,
    progress: Progress = unwatched,
) -> tuple[ModelCheck, tuple[str, ...]]:
    """The record of the check, and a line on it for the user.

    Args:
        program: the program that is compiled, after its passes.
        original: the model it came from, which must be able to run.
        phases: the uncut phases.
        engines: their engines, by name.
        tolerance: the largest share allowed; None takes the one of the coarsest element type.
        progress: is called before every run of a phase of the model.

    Raises ModelDiffers naming the output that is the furthest off, if one is too far.
    """
    coarsest = max(original.precision, precision_of(program), key=PRECISIONS.index)
    allowed = TOLERANCES[coarsest] if tolerance is None else tolerance
    seeds = [MASKED] if sum(weights_of(program).values()) > _LARGE else [MASKED, MASKED + 1]
    example = example_observation(program)
    walk = _Walk(program, original, phases, engines, progress)
    found, observations, warnings = list(walk.run(example, _EXAMPLE)), 1, []
    kept = {
        name: example[name]
        for name in (*(FIXED.find(program) or ()), *(COUNTED.find(program) or ()))
    }
    while seeds:
        seed = seeds.pop(0)
        varied = {**probing(program.inputs, example, seed), **kept}
        changed = [name for name in example if not np.array_equal(example[name], varied[name])]
        if not changed:
            continue
        try:
            run = f"a variation of it, {', '.join(changed)} drawn anew"
            found += list(walk.run(varied, run))
            observations += 1
        except _NotTaken as error:
            warnings.append(f"{original.what} does not take other whole numbers: {error}")
            seeds = [FLOATS] if seed == MASKED else []
    warnings += _flips(found, coarsest)
    counted = _counted(found, coarsest)
    too_far = [one for one in counted if not one.share <= allowed]
    if too_far:
        on_example = [one for one in too_far if one.run.startswith(_EXAMPLE)]
        worst = max(on_example or too_far, key=lambda one: one.share)
        raise ModelDiffers(_refusal(program, original, worst, allowed))
    worst = max(counted, key=lambda one: one.share)
    record = ModelCheck(
        original.what,
        "",
        _rounded(worst.difference),
        _rounded(worst.magnitude),
        f"{worst.output}, {worst.run}",
        allowed,
        observations,
    )
    return record, tuple(warnings)


def _refusal(program: Program, original: Original, worst: _Difference, allowed: float) -> str:
    hint = (
        "a value that the trace took for a constant, or a mask that it decided on"
        if worst.run.startswith("a variation")
        else "a mask or a branch that was decided while it was traced"
    )
    return (
        f"{program.name} is not {original.what}: {worst.output} differs by "
        f"{worst.difference:.3g} of {worst.magnitude:.3g} on {worst.run}, and {allowed:g} of that "
        f"is allowed; look for {hint}. --model-tolerance allows more, --no-model-check compares "
        f"nothing"
    )


def _counted(found: Sequence[_Difference], coarsest: str) -> list[_Difference]:
    """Those that a verdict is made of: beside coarse numbers whole ones only warn."""
    floats = [one for one in found if not one.exact]
    return floats if floats and coarsest in _ROUNDING else list(found)


def _flips(found: Sequence[_Difference], coarsest: str) -> Iterator[str]:
    """A line for every output of whole numbers that differs where rounding may be the cause."""
    for output in dict.fromkeys(one.output for one in found if one.exact and one.difference):
        if coarsest in _ROUNDING:  # in finer types they are refused
            yield (
                f"{output} holds whole numbers, and they differ from the model's own in "
                f"{coarsest}; where two values are near each other rounding does that"
            )


def _rounded(figure: float) -> float:
    """To two digits: the last ones depend on how many threads there are."""
    return float(f"{figure:.2g}")


class _NotTaken(Exception):
    """The model itself raised on what it was given."""


class _Walk:
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

    def run(self, observation: Arrays, which: str) -> Iterator[_Difference]:
        """Every output that is compared. Raises _NotTaken if the model does not take it, where it
        is a variation; what the model raised where it is the example.
        """
        # Beside the example, in the middle of an episode: state is drawn, too.
        state = {
            key: initial if which == _EXAMPLE else synthetic(self._specs[key], _STATE_SEED)
            for key, initial in self._initial.items()
        }
        begun = {**observation, **state}
        if self._original.step is not None:
            yield from self._whole(self._original.step, begun, which)
            return
        held = {name: _plain(array, self._specs[name]) for name, array in begun.items()}
        most = _MOST_TRIPS if which == _EXAMPLE else 2
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

    def _whole(self, step: Runner, begun: Arrays, which: str) -> Iterator[_Difference]:
        """A control step as a whole: of a loop that was rolled, the model has no phases."""
        self._progress("model check", 0, 1)
        given = {name: _plain(array, self._specs[name]) for name, array in begun.items()}
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
        yield from self._differences(mine, {keys[name]: made[name] for name in named}, which)

    def _raised(self, what: str, error: Exception, which: str) -> Exception:
        reason = one_line(f"{type(error).__name__}: {error}")[:_MAX_REASON]
        if which != _EXAMPLE:
            return _NotTaken(reason)
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
        return {key: _plain(mine[key], self._specs[key]) for key in added}

    def _compared(
        self, phase: WholePhase, given: Arrays, made: Arrays, run: str
    ) -> Iterator[_Difference]:
        typed = {key: carried(array, self._specs[key]) for key, array in given.items()}
        mine = self._run(phase, typed, run)
        yield from self._differences(
            mine, {key: made[key] for key in phase.outputs if key in made}, run
        )

    def _differences(self, mine: Arrays, made: Arrays, run: str) -> Iterator[_Difference]:
        """How far outputs are from the model's own."""
        floats = {key: array for key, array in made.items() if not _is_exact(array)}
        largest = magnitude(floats, finite=True) if floats else 0.0
        for key in made:
            array = _plain(mine[key], self._specs[key])
            if array.shape != made[key].shape:
                raise ModelDiffers(
                    f"{key} has the shape {list(array.shape)}, and {list(made[key].shape)} in "
                    f"{self._original.what}"
                )
            one, other, exact = {key: array}, {key: made[key]}, _is_exact(made[key])
            size = magnitude(other, finite=True) or (0.0 if exact else largest)
            yield _Difference(key, run, exact, largest_difference(one, other), size)

    def _run(self, phase: WholePhase, given: Arrays, run: str) -> Arrays:
        try:
            return self._engines[phase.name].run(given)
        except BackendError as error:
            raise ModelDiffers(
                f"phase {phase.name} fails on {run}, and {self._original.what} does not: {error}"
            ) from error


def _is_exact(array: np.ndarray) -> bool:
    return not np.issubdtype(array.dtype, np.floating)


def _plain(array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """The numbers of a tensor as it is carried at run time, in a type of numpy's own."""
    found = numbers(array, spec.dtype)
    return found if found.dtype.kind in "biuf" else found.astype(np.float32)
