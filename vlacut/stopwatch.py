"""Stopwatch: how long things take here, measured in turns so that a slow moment hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_BURST_S = 0.01  # a turn is repeated for so long, so that short runs find their caches warm
_MAX_BURST = 20


@dataclass(frozen=True)
class Measured:
    """What repeated measurements say. Seconds.

    Attributes:
        seconds: median over the turns of the shortest run in a turn.
        shortest: of all runs.
        low, high: quartiles over the turns.
        turns: how many there were.
    """

    seconds: float
    shortest: float
    low: float
    high: float
    turns: int


def measure(
    runs: Sequence[Callable[[], object]],
    turns: int,
    progress: Callable[[str, int, int], None] = lambda *_: None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Measured, ...]:
    """Time every run by a clock of seconds, in so many turns, one run after the other in each.

    A turn runs once untimed, then for 10 ms, but 20 times at most. The shortest of those counts:
    it is the one that nothing else on this machine interrupted.
    """
    seconds = np.empty((turns, len(runs)))
    for turn in range(turns):
        progress("measure", turn, turns)
        for index, run in enumerate(runs):
            run()
            seconds[turn, index] = _shortest(run, clock)
    shortest, low, middle, high = np.quantile(seconds, (0.0, 0.25, 0.5, 0.75), axis=0).tolist()
    columns = zip(middle, shortest, low, high, strict=True)
    return tuple(Measured(*column, turns) for column in columns)


def _shortest(run: Callable[[], object], clock: Callable[[], float]) -> float:
    shortest, spent = float("inf"), 0.0
    for _ in range(_MAX_BURST):
        start = clock()
        run()
        took = clock() - start
        shortest, spent = min(shortest, took), spent + took
        if spent > _BURST_S:
            break
    return shortest
