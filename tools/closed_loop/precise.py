"""One policy in several precisions, and the table by which DyQ-VLA's rule chooses among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vlacut.control.precision_table import write_precision_table
from vlacut.control.recording.staleness import ranges
from vlacut.control.report import CLOUD, Route
from vlacut.control.signals.fineness import MotionUnits
from vlacut.measurement.actions.precision import ALPHA, fit_precision_table

from .acts import Acts
from .calibrating import recorded
from .oracle import ACTIONS
from .tasks import Task
from .world import World

_UNITS = MotionUnits((0, 1, 2), (3,), increments=False)
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


def calibrate_precise(
    task: Task, world: World, each: Mapping[str, Acts], episodes: int, out: Path
) -> None:
    """Drive some episodes with the program as it is, and write the table of its precisions.

    Args:
        task: of the episodes.
        world: of the task.
        each: by precision, the program as it is first, whose name is empty.
        episodes: how many.
        out: the table's file.
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
    table, _ = fit_precision_table(seen, _UNITS, list(each), errors, moves, ticks, ALPHA, None)
    write_precision_table(out, table)
