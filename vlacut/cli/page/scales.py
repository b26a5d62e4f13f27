"""Where numbers stand on an axis, and which of them are written there. Places are in per cent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

_STEPS = (1.0, 2.0, 5.0, 10.0)


class Tick(NamedTuple):
    """A number that is written on an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`; on a logarithmic one both are above 0."""

    low: float
    high: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Where a number stands; outside of 0 to 100 where the axis does not reach."""
        low, high = self._bent(self.low), self._bent(self.high)
        return round(100 * (self._bent(value) - low) / (high - low), 3)

    def _bent(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value

    def ticks(
        self, text: Callable[[float], str], most: int = 6, least: float = 0.0
    ) -> tuple[Tick, ...]:
        """Round numbers on the axis, about `most` of them at most, and `least` apart."""
        found = self._powers(most) if self.logarithmic else self._multiples(most, least)
        return tuple(Tick(self.at(value), text(value)) for value in found)

    def _multiples(self, most: int, least: float) -> list[float]:
        rough = max((self.high - self.low) / most, least)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(one * power for one in _STEPS if one * power >= rough * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(index * step, 12) for index in range(first, last + 1)]

    def _powers(self, most: int) -> list[float]:
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for steps in ((1, 2, 5), (1, 3), (1,)):
            found = [step * 10.0**power for power in powers for step in steps]
            there = [one for one in found if self.low * 0.999 <= one <= self.high * 1.001]
            if len(there) <= most:
                return there
        return there[:: math.ceil(len(there) / most)]


def from_zero(values: Sequence[float]) -> Scale:
    """An axis from 0 to the largest of some numbers, with some room above it."""
    return Scale(0.0, max([*values, 0.0]) * 1.05 or 1.0)


def around(values: Sequence[float]) -> Scale:
    """A logarithmic axis that holds some positive numbers; half a decade at least."""
    low, high = min(values), max(values)
    room = max(10**0.5 / (high / low), 1.0) ** 0.5
    return Scale(low / room / 1.1, high * room * 1.1, logarithmic=True)


def coordinates(xs: Sequence[float], ys: Sequence[float]) -> str:
    """Places in per cent as the points of a line, y upwards."""
    return " ".join(f"{x:.2f},{100 - y:.2f}" for x, y in zip(xs, ys, strict=True))
