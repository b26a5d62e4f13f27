"""Gauges: how far codecs, or a precision, move the action of a program, measured by running it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np

from vlacut.errors import BackendError, InputError
from vlacut.hardware import Link, Side
from vlacut.ir.dataflow import Dataflow
from vlacut.ir.program import Program
from vlacut.ir.uses import key_of
from vlacut.pricing.cut import make_cut
from vlacut.runtime.whole import SEQUENCE, UncutEpisode
from vlacut.split.emission import whole_phases
from vlacut.split.local_execution import Codecs, LocalExecution
from vlacut.split.observations import (
    OBSERVATIONS,
    Observed,
    example_observation,
    held_out,
    initial_of,
)
from vlacut.split.parts import split_at, whole_states
from vlacut.split.uncut import uncut_engines
from vlacut.split.workshop import Workshop, workshop
from vlacut.tensor.codec import Codec
from vlacut.tensor.numerics import magnitude, readable, relative_difference, varied

_REMEMBERED = 8  # cuts whose engines are kept

Sides = tuple[Side, ...]
_Made = list[dict[str, np.ndarray]]  # the action, and each state that a step left


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
        self._executed: dict[Sides, LocalExecution] = {}
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

    def _engines(self, sides: Sides) -> LocalExecution:
        if sides not in self._executed:
            if len(self._executed) >= _REMEMBERED:
                del self._executed[next(iter(self._executed))]
            uncoded = make_cut(
                self._dataflow.cost_graph(), sides, self._link, name="", origin="local execution"
            )
            made = split_at(self._dataflow, (uncoded,), self._link)
            self._executed[sides] = LocalExecution(made, self._workshop)
        return self._executed[sides]

    def _uncut(self, observations: Sequence[Observed]) -> list[_Made]:
        program = self._against
        phases = whole_phases(program)
        engines = uncut_engines(self._reference, program)
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
