"""Fresh observations: what codecs do where they were not measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vlacut.backend import Engine
from vlacut.runtime.references import Made, Uncut
from vlacut.tensor.numerics import relative_difference
from vlacut.tensor.split_conformal import chance

FRESH = 16  # observations
# A bundle fails by its fresh observations where, were they like those that its codecs were measured
# on, so many of them would be beyond what is allowed in fewer bundles than one of a thousand.
LEAST_CHANCE = 1e-3


@dataclass(frozen=True)
class Fresh:
    """How far the codecs of a cut move the action on observations that had no say in their choice.

    Errors are shares of the largest magnitude in the uncut program's action.

    Attributes:
        observations: how many; of a program that remembers, episodes.
        beyond: how many of them are moved further than `allowed`.
        max_error: the largest.
        allowed: what the plan allows, or its bound, and what the back end rounds.
        alike: whether they are drawn as those that the codecs were measured on: variations of the
            golden observation, or a user's observations where such calibrated the bundle.
        chance: of so many beyond, or more, if they are; else 1.
    """

    observations: int
    beyond: int
    max_error: float
    allowed: float
    alike: bool
    chance: float

    @property
    def passed(self) -> bool:
        """Whether chance may explain it; what it does not speak against is a warning's."""
        return self.chance >= LEAST_CHANCE


def measure_fresh(
    uncut: Uncut,
    engines: Mapping[str, Engine],
    index: int,
    seeds: Sequence[int],
    rounding: float,
) -> Fresh | None:
    """What a variant's codecs do on the sequences of these seeds; None if there are none."""
    if not seeds:
        return None
    stated = uncut.plan.variants[index].action_error
    limit = (stated.allowed or 0.0) if stated.bound is None else stated.bound.error
    errors = []
    for seed in seeds:
        errors.append(max(_apart(*pair) for pair in uncut.pairs(engines, index, seed)))
    beyond = sum(not error <= rounding + limit for error in errors)
    alike = uncut.given == (stated.bound is not None)
    likely = _chance(uncut, index, beyond, len(seeds)) if alike and beyond else 1.0
    return Fresh(len(seeds), beyond, max(errors), rounding + limit, alike, likely)


def _chance(uncut: Uncut, index: int, beyond: int, fresh: int) -> float:
    stated = uncut.plan.variants[index].action_error
    bound = stated.bound
    if bound is not None:
        return chance(beyond, fresh, bound.observations, bound.rank)
    count = 1 if uncut.remembers else stated.observations  # a sequence is one observation
    return chance(beyond, fresh, count, count) if count else 1.0


def _apart(made: Made, reference: Made) -> float:
    """The largest difference of action and states, each as a share of its magnitude."""
    (action, state), (expected, left) = made, reference
    pairs = [(action, expected), *(({key: state[key]}, {key: left[key]}) for key in state)]
    return max(relative_difference(*pair) for pair in pairs)
