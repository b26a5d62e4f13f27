"""The uncut program of a bundle as it runs here, on sequences that are known by their seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from vlacut.backend import Engine
from vlacut.bundle.opened import Bundle
from vlacut.runtime.local import LocalStep, run_episode
from vlacut.runtime.whole import SEQUENCE, UncutEpisode, load_uncut
from vlacut.tensor.numerics import readable, varied

Made = tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]  # an action, and state by key
Pair = tuple[Made, Made]

_FRESH, _GIVEN = 1_000, 1_000_000  # seeds: no compilation draws these; a user's observations


class Uncut:
    """The uncut model on the golden sequence, seed 0; of a model that does not remember also on
    variations of its one observation.

    Attributes:
        plan: of the bundle.
        runs: whether it runs here; where engines are built on the device, there are none of it,
            and what was recorded takes its place.
        recorded: actions and states of the golden sequence.
    """

    def __init__(
        self, bundle: Bundle, given: Sequence[Mapping[str, np.ndarray]] = (), provider: str = ""
    ) -> None:
        manifest = bundle.manifest
        self.plan, self._states = bundle.plan, manifest.states
        self._initial = bundle.initial_state()
        golden = bundle.golden_sequence()
        self._golden = [step.observation for step in golden]
        self._given = [list(given)] if self._states and given else [[one] for one in given]
        self.recorded = [self._readable(step.action, step.state) for step in golden]
        self._made: dict[int, list[Made]] = {}
        engines = load_uncut(bundle, provider)
        self.runs = engines is not None
        if engines is not None:
            self._episode = UncutEpisode(manifest.whole, engines, manifest.states, self._initial)
        else:
            self._made[0] = self.recorded

    @property
    def given(self) -> bool:
        """Whether fresh observations are a user's."""
        return bool(self._given)

    @property
    def remembers(self) -> bool:
        """Whether there is state."""
        return bool(self._states)

    def seeds(self, wanted: int) -> range:
        """Of the observations to compare: so many, where it runs and does not remember."""
        return range(max(1, wanted) if self.runs and not self._states else 1)

    def fresh(self, count: int) -> Sequence[int]:
        """Seeds of sequences that had no say in the choice of codecs."""
        if not self.runs:
            return ()
        if self.given:
            return range(_GIVEN, _GIVEN + len(self._given))
        return range(_FRESH, _FRESH + (-(-count // SEQUENCE) if self._states else count))

    def observations(self, seed: int) -> list[Mapping[str, np.ndarray]]:
        """Those of a sequence."""
        if seed >= _GIVEN:
            return self._given[seed - _GIVEN]
        return [varied(self.plan.inputs, one, seed) for one in self._golden]

    def run_cut(self, engines: Mapping[str, Engine], variant: int, seed: int) -> list[LocalStep]:
        """The sequence by a variant."""
        given = {state.key: self._initial[state.key] for state in self._states if state.given}
        return run_episode(self.plan, engines, variant, self.observations(seed), given)

    def made(self, seed: int) -> list[Made]:
        """The actions of a sequence, and the states that its steps left."""
        if seed not in self._made:
            self._episode.reset()
            self._made[seed] = [self._step(observed) for observed in self.observations(seed)]
        return self._made[seed]

    def _step(self, observed: Mapping[str, np.ndarray]) -> Made:
        tensors = self._episode.step(observed)
        action = {name: tensors[key] for name, key in self.plan.outputs.items()}
        return self._readable(action, self._episode.state)

    def pairs(self, engines: Mapping[str, Engine], variant: int, seed: int) -> Iterator[Pair]:
        """Every action of a sequence by a variant, and every state on either side, with the uncut
        program's.
        """
        made = self.run_cut(engines, variant, seed)
        for step, (action, state) in zip(made, self.made(seed), strict=True):
            for held in step.state.values():
                there = {key: held[key] for key in state if key in held}
                mine = self._readable(step.action, there)
                yield mine, (action, {key: state[key] for key in there})

    def _readable(self, action: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray]) -> Made:
        """Actions and states as numbers that can be compared."""
        spec, keys = self.plan.spec, self.plan.outputs
        kinds = {state.key: spec[state.key].dtype for state in self.plan.states}
        return (
            {name: readable(array, spec[keys[name]].dtype) for name, array in action.items()},
            {key: readable(array, kinds.get(key, "")) for key, array in state.items()},
        )
