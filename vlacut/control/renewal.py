"""Cycles of inferences: what commands err, from one chunk's arrival to the next one's.

Used by the controller `price`, see `vlacut.control.controllers.priced`.
"""

from __future__ import annotations

import math

import numpy as np

from vlacut.control.situation import Coming
from vlacut.control.tables import ActionTables


class Cycles:
    """Errors of commands summed over time, from one inference's to the next's.

    Attributes:
        allowed: how much less than `eps` commands of the first bin err until they err by as much,
            in errors times seconds.
    """

    def __init__(self, tables: ActionTables) -> None:
        count, bins = tables.e_stale.shape
        self._ages = np.arange(2 * count) * tables.period_s
        stale = np.array(
            [[tables.stale(bin_, age) for age in self._ages.tolist()] for bin_ in range(bins)]
        )
        steps = (stale[:, 1:] + stale[:, :-1]) / 2 * tables.period_s
        self._sums = np.concatenate((np.zeros((bins, 1)), np.cumsum(steps, axis=1)), axis=1)
        self._lasts = self._ages[1 : count + 1]
        fine = np.linspace(0.0, self._ages[-1], 64 * len(self._ages))
        below = float(tables.eps[0]) - np.interp(fine, self._ages, stale[0])
        self.allowed = float(np.maximum(below, 0.0).sum() * fine[1])

    def least(self, bin_: int, age_s: float, paid: float, drift: float = 1.0) -> float:
        """The least mean of error and cost, over cycles of all lengths that begin at an age.

        Args:
            bin_: of risk.
            age_s: of the first command.
            paid: for every cycle, in errors times seconds.
            drift: by which errors are those of the tables.
        """
        sums = self._sums[bin_]
        start, *ends = np.interp([age_s, *(age_s + self._lasts)], self._ages, sums)
        made: np.ndarray = (drift * (np.array(ends) - start) + paid) / self._lasts
        return float(made.min())


def gone_back(coming: Coming, takes_s: float, scale: np.ndarray) -> float:
    """What it comes to, in errors times seconds, to execute commands a second time.

    These are those of the next `takes_s` seconds; each errs by its distance from where the robot is
    when they begin again.
    """
    again = coming.commands[: math.ceil(takes_s / coming.period_s) + 1]
    if len(again) < 2 or again.shape[1] != scale.size:
        return 0.0
    far = np.abs(again[-1] - again[:-1]) / scale
    return float(far.mean(axis=1).sum()) * coming.period_s
