"""Two ways to drive, over the same episodes: how far apart they are, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
from scipy.stats import norm, t

from .outcomes import Outcome

_LEVEL = 0.95


class Difference(NamedTuple):
    """A mean difference, the second less the first, and its interval."""

    mean: float
    low: float
    high: float


def success_difference(
    first: Sequence[Outcome], second: Sequence[Outcome], level: float = _LEVEL
) -> Difference:
    """Of the shares that succeed, from pairs with the same seeds.

    The interval is Bonett and Price's adjusted Wald interval for paired shares (Journal of
    Educational and Behavioral Statistics 37, 2012): one pair is added to either kind that differs.
    """
    _same(first, second)
    count = len(first)
    lost = sum(a.success and not b.success for a, b in zip(first, second, strict=True))
    gained = sum(b.success and not a.success for a, b in zip(first, second, strict=True))
    more, less = (gained + 1) / (count + 2), (lost + 1) / (count + 2)
    wide = sqrt((more + less - (more - less) ** 2) / (count + 2))
    half = float(norm.ppf((1 + level) / 2)) * wide
    middle = more - less
    return Difference((gained - lost) / count, max(-1.0, middle - half), min(1.0, middle + half))


def mean_difference(
    first: Sequence[Outcome], second: Sequence[Outcome], figure: str, level: float = _LEVEL
) -> Difference:
    """Of the means of an attribute of `Outcome`, from pairs with the same seeds: Student's."""
    _same(first, second)
    pairs = zip(first, second, strict=True)
    off = np.array([getattr(other, figure) - getattr(one, figure) for one, other in pairs])
    mean = float(off.mean())
    if len(off) < 2:
        return Difference(mean, -np.inf, np.inf)
    half = float(t.ppf((1 + level) / 2, len(off) - 1)) * float(off.std(ddof=1)) / sqrt(len(off))
    return Difference(mean, mean - half, mean + half)


def _same(first: Sequence[Outcome], second: Sequence[Outcome]) -> None:
    if [one.seed for one in first] != [one.seed for one in second]:
        raise ValueError("pairs are of the same episodes, in the same order")
