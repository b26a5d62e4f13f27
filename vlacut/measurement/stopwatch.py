"""Stopwatch: how long things take here, measured in turns so that a slow moment hits all alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vlacut.errors import Progress, unwatched
from vlacut.measurement.background_load import Watch, watch_background_load

_BURST_S = 0.01  # a turn is repeated for so long, so that short runs find their caches warm
_MAX_BURST = 20
_QUIET = 0.05  # of all processors: with less load, the fit's own error is the larger
_MORE_TURNS = 0.5  # of those asked for, to replace disturbed ones


@dataclass(frozen=True)
class Measured:
    """The result of repeated measurements, in seconds.

    Attributes:
        seconds: median over the turns of the shortest run in a turn.
        shortest: the shortest of all runs.
        low, high: quartiles over the turns.
        turns: how many turns there were.
        background_load: mean share of all processors that other processes had in these turns; None
            if the system does not tell.
    """

    seconds: float
    shortest: float
    low: float
    high: float
    turns: int
    background_load: float | None = None


@dataclass(frozen=True)
class _Turn:
    """Seconds of every run in a turn, and the background load meanwhile."""

    seconds: list[float]
    background_load: float | None

    @property
    def is_quiet(self) -> bool:
        return self.background_load is None or self.background_load <= _QUIET


def measure(
    runs: Sequence[Callable[[], object]],
    turns: int,
    progress: Progress = unwatched,
    clock: Callable[[], float] = time.perf_counter,
    watch: Callable[[], Watch] = watch_background_load,
) -> tuple[Measured, ...]:
    """Time every run by a clock of seconds. Each turn goes through all runs, one after the other.

    In a turn, a run goes once untimed, then for 10 ms, but at most 20 times. The shortest of those
    counts: nothing else on this machine interrupted it. Turns with a background load above 5 % are
    replaced, by up to half as many turns again; the least disturbed count.
    """
    most = turns + math.ceil(_MORE_TURNS * turns)
    found: list[_Turn] = []
    while len(found) < most and sum(turn.is_quiet for turn in found) < turns:
        progress("measure", len(found), max(turns, len(found) + 1))
        background_load = watch()
        seconds = [_warm(run, clock) for run in runs]
        found.append(_Turn(seconds, background_load()))
    kept = sorted(found, key=lambda turn: turn.background_load or 0.0)[:turns]
    levels = np.quantile([turn.seconds for turn in kept], (0.0, 0.25, 0.5, 0.75), axis=0)
    shares = [turn.background_load for turn in kept if turn.background_load is not None]
    load = sum(shares) / len(shares) if shares else None
    shortest, low, middle, high = levels.tolist()
    columns = zip(middle, shortest, low, high, strict=True)
    return tuple(Measured(*column, turns, load) for column in columns)


def _warm(run: Callable[[], object], clock: Callable[[], float]) -> float:
    run()
    return _shortest(run, clock)


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
