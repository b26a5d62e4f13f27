"""Sensitivity: how finely the robot moves, from the commands that it executed (DyQ-VLA).

DyQ-VLA (arXiv 2603.07904, section III-A) finds the moments in which an error of the action costs
the most by two signals of the executed actions:

    M = 1 - |translation| / mu                  the motion's fineness
    J = |rotation - rotation before| / nu       the angular jerk
    S = max(0, lambda mean of M + (1 - lambda) mean of J)

mu and nu are 95 % quantiles of recorded episodes, the means are over windows, lambda is a half. Two
things differ here. Windows are in seconds, 1 s and 0.5 s, for the paper's are counted in steps of a
rate that it does not give. And an arm at rest counts for neither mean: by the paper's M, waiting
would be the most sensitive thing a robot does. At rest is what moves no more than the 5 % quantile
in both, and J is 0 where the rotation does so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

FINE_S, JERK_S = 1.0, 0.5
SHARE = 0.5  # lambda


@dataclass(frozen=True)
class MotionUnits:
    """What a policy's commands mean, and what movements are measured by.

    Attributes:
        translation, rotation: columns of a command.
        increments: whether commands are movements; else they are targets, and movements are their
            differences.
        mu, nu: 95 % quantiles of |translation|, and of the change of the rotation's movement.
        rest_translation, rest_rotation: their 5 % quantiles, up to which something is at rest.
    """

    translation: tuple[int, ...]
    rotation: tuple[int, ...]
    increments: bool
    mu: float = 1.0
    nu: float = 1.0
    rest_translation: float = 0.0
    rest_rotation: float = 0.0


class _Mean:
    """The mean of the last values; 0 of none. It is summed anew once per window, so that rounding
    does not add up.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.reset()

    def reset(self) -> None:
        """Forget all values."""
        self._values: list[float] = []
        self._at, self._sum = 0, 0.0

    def add(self, value: float) -> None:
        """Take a value in; the oldest leaves a full window."""
        values, at = self._values, self._at
        if len(values) < self._size:
            values.append(value)
            self._sum += value
            return
        self._sum += value - values[at]
        values[at] = value
        self._at = at + 1
        if self._at == self._size:
            self._at, self._sum = 0, math.fsum(values)

    @property
    def mean(self) -> float:
        """Of what there is."""
        return self._sum / len(self._values) if self._values else 0.0


class SensitivityMeter:
    """S, command by command; a command costs the same for any window.

    Args:
        units: of the commands.
        period_s: seconds between them.
    """

    def __init__(self, units: MotionUnits, period_s: float) -> None:
        self._units = units
        sizes = (max(1, round(one / period_s)) for one in (FINE_S, JERK_S))
        self._fine, self._jerk = map(_Mean, sizes)
        self.reset()

    def reset(self) -> None:
        """Forget all commands."""
        self._fine.reset()
        self._jerk.reset()
        self._before: list[float] | None = None
        self._turned: list[float] | None = None

    def take(self, command: np.ndarray) -> float:
        """S, the newest command [width] counted; 0 until the robot has moved."""
        values: list[float] = command.tolist()
        moved = movement(self._units, values, self._before)
        self._before = values
        if moved is not None:
            self._note(math.hypot(*moved[0]), moved[1])
        return max(0.0, SHARE * self._fine.mean + (1 - SHARE) * self._jerk.mean)

    def _note(self, length: float, turned: list[float]) -> None:
        units, before, self._turned = self._units, self._turned, turned
        turns = math.hypot(*turned) > units.rest_rotation
        if turns or length > units.rest_translation:
            change = math.dist(turned, before) if turns and before is not None else 0.0
            self._fine.add(1 - length / units.mu)
            self._jerk.add(change / units.nu)


def movement(
    units: MotionUnits, command: list[float], before: list[float] | None
) -> tuple[list[float], list[float]] | None:
    """How far a command moves the tool, and turns it; None where that takes one before."""
    if units.increments:
        moved = command
    elif before is None:
        return None
    else:
        moved = [new - old for new, old in zip(command, before, strict=True)]
    return [moved[one] for one in units.translation], [moved[one] for one in units.rotation]
