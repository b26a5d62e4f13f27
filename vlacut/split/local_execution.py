"""Local execution: a cut program run in one place, to measure what codecs do to its action.

A back end on this machine runs the parts that `vlacut.split.parts` makes. The runtime's codecs
encode and decode a tensor that crosses in coded form. So the measured action is the one that both
sides would compute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np

from vlacut.backend import Engine
from vlacut.errors import BackendError, InputError
from vlacut.hardware import Link, Side
from vlacut.ir.annotation import EXAMPLE
from vlacut.ir.dataflow import Dataflow, key_of, weights_of
from vlacut.ir.program import Program
from vlacut.plans.instructions import Move, Run, Transfer, steps
from vlacut.pricing.cut import make_cut
from vlacut.runtime.whole import SEQUENCE, UncutEpisode
from vlacut.runtime.wire.codecs import coder_of
from vlacut.split.emission import whole_phases
from vlacut.split.parts import Split, split_at, whole, whole_states
from vlacut.split.workshop import Workshop, workshop
from vlacut.tensor import TensorSpec
from vlacut.tensor.codec import Codec
from vlacut.tensor.numerics import magnitude, readable, relative_difference, varied

OBSERVATIONS = 4  # the example, and variations of it
_REMEMBERED = 8  # cuts whose engines are kept
_MOST_SEARCHED = 32  # observations of a calibration that codecs are chosen on
_SHARE_SEARCHED = 4  # a quarter of them
_LARGE = 4 << 30  # bytes of weights, of which no second program is held beside the first

Observed = Mapping[str, np.ndarray]
Codecs = Mapping[str, Codec]
Sides = tuple[Side, ...]
_Made = list[dict[str, np.ndarray]]  # the action, and each state that a step left


def not_runnable(program: Program) -> str:
    """Why a program cannot be run: a weight has no content. Empty if all have."""
    for phase in program.phases:
        for name, value in phase.model.graph.initializers.items():
            if value.const_value is None:
                return f"weight {name} has no content, the model was traced on shapes alone"
    return ""


def not_runnable_twice(program: Program) -> str:
    """Why neither a program nor one that was made of it can be run, to compare the two."""
    large = sum(weights_of(program).values()) > _LARGE
    return not_runnable(program) or ("it is too large to be run twice" if large else "")


def held_out(calibration: Sequence[Observed]) -> Sequence[Observed]:
    """Those observations of a calibration that have no say in what codecs are chosen."""
    share = max(OBSERVATIONS, min(_MOST_SEARCHED, len(calibration) // _SHARE_SEARCHED))
    return calibration[share:]


@contextmanager
def gauging(
    dataflow: Dataflow,
    link: Link,
    backend: str = "onnxruntime",
    calibration: Sequence[Observed] = (),
    against: Program | None = None,
) -> Iterator[Gauge]:
    """A gauge of a program whose weights have content; its files are removed at the end.

    Args:
        dataflow: of the program.
        link: for the parts that are run.
        backend: that runs them.
        calibration: observations, in an order that says nothing; empty for variations of the
            example. A program that remembers has none.
        against: the program whose actions are the right ones; None for that of the dataflow.

    Raises BackendError if the back end cannot run the program.
    """
    with ExitStack() as stack:
        mine = stack.enter_context(workshop(backend))
        other = mine if against is None else stack.enter_context(workshop(backend))
        yield Gauge(dataflow, link, mine, calibration, against, other)


def uncut_step(
    program: Program, observation: Mapping[str, np.ndarray], backend: str = "onnxruntime"
) -> dict[str, np.ndarray]:
    """The action, and the state that is left, of the first step of an episode, by name.

    Raises BackendError if the back end cannot run the program.
    """
    return uncut_episode(program, [observation], backend)[0]


def uncut_episode(
    program: Program,
    observations: Sequence[Mapping[str, np.ndarray]],
    backend: str = "onnxruntime",
) -> list[dict[str, np.ndarray]]:
    """As `uncut_step`, of every step of an episode."""
    names = [*(spec.name for spec in program.outputs), *(one.output for one in program.state)]
    keys = {one: key_of(program, program.output_source(one)) for one in names}
    with workshop(backend) as made_here:
        engines = _phases(made_here, program)
        states, initial = whole_states(program), initial_of(program)
        episode = UncutEpisode(whole_phases(program), engines, states, initial)
        made = [episode.step(observed) for observed in observations]
    return [{one: step[key] for one, key in keys.items()} for step in made]


class Gauge:
    """Says how far codecs, or a precision, move the action of a program. Made by `gauging`."""

    def __init__(
        self,
        dataflow: Dataflow,
        link: Link,
        workshop: Workshop,
        calibration: Sequence[Observed] = (),
        against: Program | None = None,
        reference: Workshop | None = None,
    ) -> None:
        self._dataflow = dataflow
        self._against = against or dataflow.program
        self._reference = reference or workshop
        self._link = link
        self._workshop = workshop
        program = dataflow.program
        example = example_observation(program)
        self._states = whole_states(program)
        self._read = [state.input for state in dataflow.states]
        self._initial = initial_of(program)
        count = SEQUENCE if self._states else OBSERVATIONS
        self._held = held_out(calibration)
        self._observations: list[Observed] = [
            varied(program.inputs, example, seed) for seed in range(count)
        ]
        if calibration:
            searched = calibration[: len(calibration) - len(self._held)]
            self._observations = [example, *searched]
        self._actions = {
            spec.name: key_of(program, program.output_source(spec.name)) for spec in program.outputs
        }
        self._references = self._uncut(self._observations)
        if not self._references:
            raise BackendError("the action of the uncut model holds a NaN or an infinity")
        self._held_references: list[_Made] = []
        self._executed: dict[Sides, _LocalExecution] = {}
        self._errors: dict[tuple[Sides, tuple[tuple[str, Codec], ...]], float] = {}

    @property
    def observations(self) -> int:
        """How many observations it measures on: those before the first action not finite."""
        return len(self._references)

    def error(self, sides: Sides, codecs: Codecs) -> float:
        """The largest error of all observations, see `vlacut.pricing.coding.ActionError`.

        If the program remembers, the observations are the steps of an episode, and the errors of
        its state count too.

        Args:
            sides: of every task.
            codecs: of tensors that cross, by key; the others go as they are.
        """
        asked = sides, tuple(sorted(codecs.items()))
        if asked not in self._errors:
            self._errors[asked] = max(
                self._each(sides, codecs, self._observations, self._references)
            )
        return self._errors[asked]

    @property
    def held(self) -> int:
        """How many observations have no say in the choice of codecs; 0 without a calibration."""
        return len(self._held)

    def held_errors(self, sides: Sides, codecs: Codecs) -> list[float]:
        """The error of each of those.

        Raises InputError if the uncut model's action is no number on one of them.
        """
        if not self._held_references:
            self._held_references = self._uncut(self._held)
        if len(self._held_references) < len(self._held):
            number = len(self._held_references) + 1
            raise InputError(
                f"the action of the uncut model holds a NaN or an infinity on observation {number} "
                f"of the {len(self._held)} that are held out for calibration; leave it out"
            )
        return list(self._each(sides, codecs, self._held, self._held_references))

    def _each(
        self,
        sides: Sides,
        codecs: Codecs,
        observations: Sequence[Observed],
        references: Sequence[_Made],
    ) -> Iterator[float]:
        executed = self._engines(sides)
        executed.begin(self._initial)
        for observed, reference in zip(observations, references, strict=False):
            made = self._made(executed.run(observed, codecs))
            yield max(map(relative_difference, made, reference))

    def _engines(self, sides: Sides) -> _LocalExecution:
        if sides not in self._executed:
            if len(self._executed) >= _REMEMBERED:
                del self._executed[next(iter(self._executed))]
            uncoded = make_cut(
                self._dataflow.cost_graph(), sides, self._link, name="", origin="local execution"
            )
            made = split_at(self._dataflow, (uncoded,), self._link)
            self._executed[sides] = _LocalExecution(made, _parts(self._workshop, made))
        return self._executed[sides]

    def _uncut(self, observations: Sequence[Observed]) -> list[_Made]:
        program = self._against
        phases = whole_phases(program)
        engines = _phases(self._reference, program)
        episode = UncutEpisode(phases, engines, self._states, self._initial)
        references = []
        for observed in observations:
            made = self._made({**episode.step(observed), **episode.state})
            if not all(np.isfinite(magnitude(one)) for one in made):
                break
            references.append(made)
            if not self._states:
                episode.reset()
        return references

    def _made(self, held: Mapping[str, np.ndarray]) -> _Made:
        """The action, and each state that a step left."""
        spec = self._dataflow.specs
        named = {**self._actions, **{key: key for key in self._read}}
        found = {name: readable(held[key], spec[key].dtype) for name, key in named.items()}
        action = {name: found[name] for name in self._actions}
        return [action, *({key: found[key]} for key in self._read)]


def _phases(made: Workshop, program: Program) -> dict[str, Engine]:
    """Engines of the uncut phases, by name."""
    described = whole_phases(program)
    return {
        phase.name: made.engine(phase.name, whole(phase, [one.key for one in about.inputs]))
        for phase, about in zip(program.phases, described, strict=True)
    }


def _parts(made: Workshop, split: Split) -> dict[str, Engine]:
    """Engines of parts, by name."""
    pairs = zip(split.parts, split.models, strict=True)
    return {part.name: made.engine(part.name, model) for part, model in pairs}


class _LocalExecution:
    """A cut with its engines; walks the schedule of both sides."""

    def __init__(self, made: Split, engines: Mapping[str, Engine]) -> None:
        self._first, self._schedule = made.firsts[0], made.schedule
        self._part = {part.name: part for part in made.parts}
        self._spec = {spec.name: spec for spec in made.tensors}
        self._engines = engines

    def begin(self, initial: Mapping[str, np.ndarray]) -> None:
        """Begin an episode."""
        self._held = {side: dict(initial) for side in Side}
        self._begun = False

    def run(
        self, observation: Mapping[str, np.ndarray], codecs: Codecs
    ) -> Mapping[str, np.ndarray]:
        """All tensors after the next control step of the episode, by key; the edge's, where both
        sides have one.
        """
        held = self._held
        held[Side.EDGE] |= observation
        for step in steps(self._schedule if self._begun else (*self._first, *self._schedule)):
            self._do(step.instruction, held, codecs)
        self._begun = True
        return {**held[Side.CLOUD], **held[Side.EDGE]}

    def _do(
        self,
        instruction: Run | Transfer | Move,
        held: Mapping[Side, dict[str, np.ndarray]],
        codecs: Codecs,
    ) -> None:
        if isinstance(instruction, Run):
            part = self._part[instruction.part]
            mine = held[part.side]
            mine |= self._engines[part.name].run({key: mine[key] for key in part.inputs})
        elif isinstance(instruction, Transfer):
            for key in instruction.tensors:
                array = held[instruction.source][key]
                codec = codecs.get(key, Codec.NONE)
                held[instruction.source.other][key] = _over(array, codec, self._spec[key])
        else:
            for side in instruction.sides:
                held[side][instruction.target] = held[side][instruction.source]


def _over(array: np.ndarray, codec: Codec, spec: TensorSpec) -> np.ndarray:
    """What arrives of a tensor."""
    if codec is Codec.NONE:
        return array
    coder = coder_of(codec, spec)
    wire, arrived = np.empty(coder.nbytes, np.uint8), np.empty(array.shape, array.dtype)
    nbytes = coder.encode(np.require(array, requirements="C"), wire)
    coder.decode(wire[:nbytes], arrived)
    return arrived


def example_observation(program: Program) -> dict[str, np.ndarray]:
    """The example the front end recorded; else, from a fixed seed, normal floats and zeros."""
    recorded = EXAMPLE.find(program) or {}
    numbers = np.random.default_rng(0)
    observation = {}
    for spec in program.inputs:
        values = numbers.standard_normal(spec.numpy_shape)
        if spec.dtype not in ("float16", "float32", "float64"):
            values = np.zeros(spec.numpy_shape)
        observation[spec.name] = spec.check(
            recorded.get(spec.name, values.astype(spec.numpy_dtype))
        )
    return observation


def initial_of(program: Program) -> dict[str, np.ndarray]:
    """State in the first step of an episode, by key; without what is made on reset."""
    return {
        state.input: state.first(program.state_spec(state))
        for state in program.state
        if program.reset_source(state.input) is None
    }
