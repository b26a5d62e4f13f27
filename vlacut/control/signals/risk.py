"""The learnt risk: how likely it is that playing on is worse than asking.

A logistic model on the signals of the last three ticks and on what the chunk in force announces;
fitted by `vlacut calibrate-actions` (`vlacut.measurement.actions`). Kinematics cannot see the world
change: whoever uses it bounds the age of commands beside it.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from vlacut.control.situation import STILL, Ahead, Motion

TICKS = 3
SIGNALS = 6  # of a tick
FEATURES = TICKS * SIGNALS + len(Ahead._fields)


@dataclass(frozen=True, eq=False)
class RiskModel:
    """Weights of a logistic model.

    Attributes:
        weights, mean, scale: [FEATURES]; features are taken less their mean, over their scale.
        bias: of the model.
        threshold: from which on a tick counts as critical.
    """

    weights: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    bias: float
    threshold: float

    def risk(self, features: np.ndarray) -> np.ndarray:
        """Probabilities of features [..., FEATURES]."""
        with np.errstate(over="ignore"):
            score = ((features - self.mean) / self.scale) @ self.weights + self.bias
            made: np.ndarray = 1 / (1 + np.exp(-score))
        return made


class RiskSignals:
    """The features of a tick, from those before it."""

    def __init__(self) -> None:
        self._ticks: deque[tuple[float, ...]] = deque(maxlen=TICKS)
        self.reset()

    def reset(self) -> None:
        """Another episode begins."""
        self._ticks.extend([signals(STILL)] * TICKS)

    def features(self, motion: Motion, ahead: Ahead) -> np.ndarray:
        """[FEATURES], the newest tick first; the tick counts as seen."""
        self._ticks.appendleft(signals(motion))
        return np.array([one for tick in self._ticks for one in tick] + list(ahead))


def signals(motion: Motion) -> tuple[float, ...]:
    """What the model sees of a tick; logarithms, as scores have long tails."""
    return (
        math.log1p(motion.acceleration),
        math.log1p(motion.torque),
        motion.weight,
        math.log1p(motion.speed),
        math.log1p(motion.raw_acceleration),
        math.log1p(motion.raw_torque),
    )
