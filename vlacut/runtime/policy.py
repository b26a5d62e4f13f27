"""Policies: which variant the next step runs. The edge asks before each step; switching is free.

A policy is called with the report of the step before, None before the first, and returns the index
of a variant of the plan.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Optional

from vlacut.errors import InputError
from vlacut.hardware import Link
from vlacut.plan import Plan

if TYPE_CHECKING:
    from vlacut.runtime.report import StepReport

Policy = Callable[[Optional["StepReport"]], int]


def always(plan: Plan, name: str) -> Policy:
    """The variant of this name in every step; InputError naming those there are."""
    names = [variant.name for variant in plan.variants]
    if name not in names:
        raise InputError(f"the plan has no variant {name!r}; it has {', '.join(names)}")
    index = names.index(name)
    return lambda _: index


def at_random(plan: Plan, seed: int = 0) -> Policy:
    """Any variant in any step, from a seed."""
    numbers = random.Random(seed)
    return lambda _: numbers.randrange(len(plan.variants))


def cheapest(plan: Plan, link: Callable[[], Link]) -> Policy:
    """The variant with the lowest price over the link as it is now, the first of equals."""
    prices = [variant.price for variant in plan.variants]

    def choose(_: StepReport | None) -> int:
        now = link()
        return min(range(len(prices)), key=lambda index: prices[index].over(now))

    return choose
