"""One policy in several precisions, and the tables by which DyQ-VLA's rule chooses among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlacut.control.precision_table import PrecisionTable
from vlacut.control.recording.episodes import Episodes
from vlacut.control.recording.staleness import ranges
from vlacut.control.report import CLOUD, Route
from vlacut.control.signals.fineness import MotionUnits
from vlacut.measurement.actions.binning import conformal_quantile
from vlacut.measurement.actions.precision import (
    ALPHA,
    fit_precision_table,
    fit_units,
    sensitivities,
)

from ..simulation.tasks import Task
from ..simulation.world import World
from .acts import Acts
from .calibrating import recorded
from .oracle import ACTIONS

_UNITS = MotionUnits((0, 1, 2), (3,), increments=False)
MEASURED_TABLE, PAPER_TABLE = "precisions.json", "dyq.json"
THETA = 0.5  # the paper's theta_fp
_EVERY = 5  # ticks from one that precisions run on to the next


class Several:
    """A policy whose variants are its precisions, the program as it is first.

    Args:
        each: its bundles.
    """

    def __init__(self, each: Sequence[Acts]) -> None:
        self._each = each
        self.inputs, self.seen, self.doubts = each[0].inputs, each[0].seen, each[0].doubts
        self.reader = each[0].reader

    def act(
        self, observation: Mapping[str, np.ndarray], variant: int = 0
    ) -> Mapping[str, np.ndarray]:
        """The chunk, by name, in a precision."""
        return self._each[variant].act(observation)


def routes(names: Sequence[str]) -> tuple[Route, ...]:
    """A route of every precision; the first is the program as it is."""
    own = Route("as it is", CLOUD, "float32")
    return (own, *(Route(name, CLOUD, name, rounded=True) for name in names))


@dataclass(frozen=True)
class Compared:
    """What precisions do to a policy in episodes that the program as it is drove.

    Attributes:
        seen: the episodes, N ticks.
        names: of the precisions; the program as it is first, whose name is empty.
        ticks: [n], those that every precision ran on.
        errors: [P, n], of a chunk's numbers, as shares of the columns' ranges.
        moves: [N], how far the policy's own plan moved from the tick before, in the same shares;
            nan at the first tick of an episode.
    """

    seen: Episodes
    names: Sequence[str]
    ticks: np.ndarray
    errors: np.ndarray
    moves: np.ndarray


def compare(
    task: Task, world: World, each: Mapping[str, Acts], episodes: int, out: Path
) -> Compared:
    """Drive some episodes, and run every precision on what was seen.

    Args:
        task: of the episodes.
        world: of the task.
        each: by precision, the program as it is first.
        episodes: how many.
        out: the file that a table will go to; beside it is room for a recording.
    """
    policies = list(each.values())
    seen, fresh = recorded(task, world, policies[0], episodes, out)
    ticks = np.arange(0, seen.ticks, _EVERY)
    scale, reader = ranges(fresh), policies[0].reader()
    errors = np.zeros((len(policies), len(ticks)))
    for place, policy in enumerate(policies):
        for at, tick in enumerate(ticks):
            given = {name: rows[tick] for name, rows in seen.observation.items()}
            chunk = reader.read(policy.act(given)[ACTIONS], given)
            errors[place, at] = (np.abs(chunk - fresh[tick]) / scale).mean()
    moves = np.full(seen.ticks, np.nan)
    for first, end in seen.bounds():
        apart = np.abs(fresh[first : end - 1, 1:] - fresh[first + 1 : end, :-1])
        moves[first + 1 : end] = (apart / scale).mean((1, 2))
    return Compared(seen, list(each), ticks, errors, moves)


def measured_table(made: Compared) -> PrecisionTable:
    """Ours: a bin takes the least exact precision whose error is allowed there."""
    given = (made.seen, _UNITS, made.names, made.errors, made.moves, made.ticks)
    return fit_precision_table(*given, ALPHA, None)[0]


def paper_table(made: Compared) -> PrecisionTable:
    """The paper's: above a sensitivity of 0.5 the program as it is, below it one other precision
    (arXiv 2603.07904, theta_fp; of its lookup among 2, 4 and 8 bits one is left here). What is
    allowed is what that precision does, for nobody asks.
    """
    units = fit_units(made.seen, _UNITS)
    low = sensitivities(made.seen, units)[made.ticks] < THETA
    bounds = [
        [conformal_quantile(row[one], ALPHA) if one.any() else 0.0 for one in (low, ~low)]
        for row in made.errors
    ]
    return PrecisionTable(
        precisions=tuple(made.names),
        units=units,
        edges=(THETA,),
        levels=(1, 0),
        eps=tuple(bounds[1]),
        errors=tuple(map(tuple, bounds)),
        alpha=ALPHA,
        counts=(int(low.sum()), int((~low).sum())),
    )
