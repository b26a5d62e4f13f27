"""Verification of a bundle: three comparisons, of which one was made when it was compiled.

The *module* or file that it came from with the uncut program, as the manifest records it; the
*uncut program* as it runs here with what was recorded of it then; and every *cut* with the uncut
program.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vlacut.backend import Engine
from vlacut.bundle.manifest import Bundle
from vlacut.bundle.model_check import ModelCheck
from vlacut.errors import Progress, unwatched
from vlacut.runtime.engines import load_engines
from vlacut.runtime.local import LocalStep, run_episode
from vlacut.runtime.whole import UncutEpisode, load_uncut
from vlacut.side import Side
from vlacut.tensor.numerics import largest_difference, magnitude, varied

Made = tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]  # an action, and state by key

MODULE, UNCUT, CUT = "module", "uncut program", "cut"

# Another processor may sum in another order: float32 to about its last two decimal digits.
_OTHER_MACHINE = 1e-5


@dataclass(frozen=True)
class CutResult:
    """One comparison, and how far apart the two were.

    Attributes:
        comparison: `module`, `uncut program` or `cut`.
        name: of the variant; of the others `uncut program`, or what it was compared with.
        max_abs_error: over all tensors of the action; of the module, of the worst output.
        allowed: by the bundle, in the same units.
        why_not: why nothing was compared; empty if it was.
    """

    comparison: str
    name: str
    max_abs_error: float
    allowed: float
    why_not: str = ""

    @property
    def passed(self) -> bool:
        """Whether the error is allowed; one that is no number is not."""
        return self.max_abs_error <= self.allowed


def verify_bundle(bundle: Bundle, progress: Progress = unwatched) -> tuple[CutResult, ...]:
    """Run the uncut program and every variant on the golden observation, and compare; of a program
    that remembers, on the golden sequence, every action and every state of it.

    Both sides of a variant run in this process and talk over the real wire. One with codecs is run
    on variations of the observation too, as many as its error was measured on, and may be as far
    off as the plan states: see `vlacut.pricing.coding.ActionError`. Where engines are built on the
    device there are none of the uncut model: what was recorded of it takes its place.

    Raises BundleError if the bundle has no golden observation.
    """
    plan, steps = bundle.plan, 1 + len(bundle.plan.variants)
    uncut = _Uncut(bundle)
    progress("uncut", 0, steps)
    results = [_module(bundle.manifest.model_check)]
    if uncut.runs:
        pairs = zip(uncut.recorded, uncut.made(0), strict=True)
        results.append(_worst(UNCUT, UNCUT, pairs, _OTHER_MACHINE))
    else:
        name = bundle.backend(bundle.manifest.uncut)
        why_not = f"engines of {name} are built of its parts alone"
        results.append(CutResult(UNCUT, UNCUT, 0.0, 0.0, why_not))
    engines = load_engines(bundle, Side.EDGE) | load_engines(bundle, Side.CLOUD)
    for index, variant in enumerate(plan.variants):
        progress(variant.name, 1 + index, steps)
        stated = variant.action_error
        tolerance = bundle.manifest.tolerance + (stated.allowed or 0.0)
        compared = [
            _worst(
                CUT,
                variant.name,
                _pairs(uncut.run_cut(engines, index, seed), uncut.made(seed)),
                tolerance,
            )
            for seed in uncut.seeds(stated.observations)
        ]
        results.append(max(compared, key=_badness))
    return tuple(results)


def _pairs(made: Sequence[LocalStep], references: Sequence[Made]) -> Iterator[tuple[Made, Made]]:
    """Every action and every state on either side, with the uncut program's."""
    for step, (action, state) in zip(made, references, strict=True):
        for held in step.state.values():
            there = {key: held[key] for key in state if key in held}
            yield (step.action, there), (action, {key: state[key] for key in there})


class _Uncut:
    """The uncut model on the golden sequence, seed 0; of a model that does not remember also on
    variations of its one observation.

    Attributes:
        runs: whether it runs here; where engines are built on the device, there are none of it,
            and what was recorded takes its place.
        recorded: actions and states of the golden sequence.
    """

    def __init__(self, bundle: Bundle) -> None:
        manifest = bundle.manifest
        self._plan, self._states = bundle.plan, manifest.states
        self._initial = bundle.initial_state()
        golden = bundle.golden_sequence()
        self._golden = [step.observation for step in golden]
        self.recorded: list[Made] = [(step.action, step.state) for step in golden]
        self._made: dict[int, list[Made]] = {}
        engines = load_uncut(bundle)
        self.runs = engines is not None
        if engines is not None:
            self._episode = UncutEpisode(manifest.whole, engines, manifest.states, self._initial)
        else:
            self._made[0] = self.recorded

    def seeds(self, wanted: int) -> range:
        """Of the observations to compare: so many, where it runs and does not remember."""
        return range(max(1, wanted) if self.runs and not self._states else 1)

    def observations(self, seed: int) -> list[dict[str, np.ndarray]]:
        """Those of a sequence."""
        return [varied(self._plan.inputs, one, seed) for one in self._golden]

    def run_cut(self, engines: Mapping[str, Engine], variant: int, seed: int) -> list[LocalStep]:
        """The sequence by a variant."""
        given = {state.key: self._initial[state.key] for state in self._states if state.given}
        return run_episode(self._plan, engines, variant, self.observations(seed), given)

    def made(self, seed: int) -> list[Made]:
        """The actions of a sequence, and the states that its steps left."""
        if seed not in self._made:
            self._episode.reset()
            self._made[seed] = [self._step(observed) for observed in self.observations(seed)]
        return self._made[seed]

    def _step(self, observed: Mapping[str, np.ndarray]) -> Made:
        tensors = self._episode.step(observed)
        action = {name: tensors[key] for name, key in self._plan.outputs.items()}
        return action, self._episode.state


def _badness(result: CutResult) -> float:
    """How much of what is allowed an error takes."""
    if result.max_abs_error == 0:
        return 0.0
    share = result.max_abs_error / result.allowed if result.allowed else math.inf
    return share if share == share else math.inf


def _module(record: ModelCheck) -> CutResult:
    allowed = record.tolerance * record.magnitude
    return CutResult(MODULE, record.against, record.difference, allowed, record.why_not)


def _worst(
    comparison: str, name: str, pairs: Iterable[tuple[Made, Made]], tolerance: float
) -> CutResult:
    """The worst of all actions and states: each state is measured by its own magnitude."""
    compared = []
    for (action, state), (reference, left) in pairs:
        compared.append(_compare(comparison, name, action, reference, tolerance))
        for key, array in state.items():
            one, other = {key: array}, {key: left[key]}
            compared.append(_compare(comparison, name, one, other, tolerance))
    return max(compared, key=_badness)


def _compare(
    comparison: str,
    name: str,
    action: Mapping[str, np.ndarray],
    reference: Mapping[str, np.ndarray],
    tolerance: float,
) -> CutResult:
    allowed = tolerance * magnitude(reference, finite=True)
    return CutResult(comparison, name, largest_difference(action, reference), allowed)
