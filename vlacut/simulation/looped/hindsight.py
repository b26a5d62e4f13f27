"""The best decisions in hindsight: everything known, no dearer than what was decided.

For an episode it minimises the sum of the commands' errors plus a price times the cost of
inferences, over all ways to keep and to ask. The dynamic program runs over the tick and the age of
the chunk in force. A larger price buys fewer inferences. At the price that costs no more than a run
did, the result is a lower bound of any controller's error at that cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_BISECTIONS = 24
_MOST_PRICE = 1e6


@dataclass(frozen=True, eq=False)
class Episode:
    """What is known of an episode.

    Attributes:
        errors: of a command of the chunk that is d ticks old, [n, D], beyond D as there.
        arrivals: ticks until an inference by a variant that begins at a tick is there, [n, V].
        costs: of an inference, [V].
        added: to errors by the variant of the chunk, [V].
    """

    errors: np.ndarray
    arrivals: np.ndarray
    costs: np.ndarray
    added: np.ndarray


@dataclass(frozen=True)
class Best:
    """The best decisions at a price.

    Attributes:
        error: sum over ticks.
        cost: of all inferences.
        inferences: how many.
    """

    error: float
    cost: float
    inferences: int

    def __add__(self, other: Best) -> Best:
        return Best(
            self.error + other.error, self.cost + other.cost, self.inferences + other.inferences
        )


def best_at(episode: Episode, price: float) -> Best:
    """The best decisions of an episode that begins with its first tick's chunk."""
    count, most = episode.errors.shape
    variants = len(episode.costs)
    errors = _filled(episode.errors)
    older = np.minimum(np.arange(most) + 1, most - 1)
    along = np.zeros((count + 1, most))  # of keeping from a tick to the end
    for tick in range(count - 1, -1, -1):
        along[tick] = errors[tick] + along[tick + 1, older]
    # By tick, variant of the chunk in force, and its age.
    value = np.zeros((count + 1, variants, most))
    choice = np.full((count, variants, most), -1)
    ages = np.arange(most)
    for tick in range(count - 1, -1, -1):
        best = errors[tick] + episode.added[:, None] + value[tick + 1][:, older]
        for variant in range(variants):
            arrives = min(count, tick + int(episode.arrivals[tick, variant]))
            waits = arrives - tick
            later = along[arrives, np.minimum(ages + waits, most - 1)]
            meanwhile = along[tick] - later + waits * episode.added[:, None]
            after = value[arrives, variant, min(waits, most - 1)]
            asked = meanwhile + price * episode.costs[variant] + after
            better = asked < best
            best = np.where(better, asked, best)
            choice[tick][better] = variant
        value[tick] = best
    return _walk(episode, errors, choice)


def _walk(episode: Episode, errors: np.ndarray, choice: np.ndarray) -> Best:
    count, most = errors.shape
    tick = age = inferences = 0
    held = int(np.argmin(episode.added))  # the first chunk is nobody's choice
    error = cost = 0.0
    while tick < count:
        variant = int(choice[tick, held, age])
        waits = 1 if variant < 0 else min(count - tick, int(episode.arrivals[tick, variant]))
        for _ in range(waits):
            error += float(errors[tick, age] + episode.added[held])
            tick, age = tick + 1, min(age + 1, most - 1)
        if variant >= 0:
            cost, inferences = cost + float(episode.costs[variant]), inferences + 1
            held, age = variant, min(waits, most - 1)
    return Best(error, cost, inferences)


def _filled(errors: np.ndarray) -> np.ndarray:
    """Ages that no chunk of the episode has are never reached; they must not spoil sums."""
    filled: np.ndarray = np.nan_to_num(errors, nan=0.0)
    return filled


def best_within(episodes: Sequence[Episode], budget: float) -> Best:
    """The best decisions of all episodes that one price gives within a budget.

    The least error of any decisions of that cost lies between this one and that of the price's next
    smaller cost.
    """

    def at(price: float) -> Best:
        total = Best(0.0, 0.0, 0)
        for episode in episodes:
            total += best_at(episode, price)
        return total

    return _bisected(at, budget)


def _bisected(at: Callable[[float], Best], budget: float) -> Best:
    free = at(0.0)
    if free.cost <= budget:
        return free
    low, high, best = 1e-6, _MOST_PRICE, at(_MOST_PRICE)
    for _ in range(_BISECTIONS):
        price = math.sqrt(low * high)
        tried = at(price)
        if tried.cost <= budget:
            high, best = price, min(best, tried, key=lambda one: one.error)
        else:
            low = price
    return best
