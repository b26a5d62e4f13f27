"""Tables of action errors for the controllers that need them, from the policy's own episodes.

What age does to a command is the policy's and the task's; what a variant does is nothing, since
every cut of a program computes the same. So the tables of the small policy serve with the names of
the full-size plan's variants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from vlacut.bundle.reading import read_bundle
from vlacut.control.controllers.simple import Periodic
from vlacut.control.recording.episodes import Episodes
from vlacut.control.recording.recorder import Recorder
from vlacut.control.tables import write_tables
from vlacut.measurement.actions.calibrating import fit_tables

from ..simulation.tasks import Task
from ..simulation.world import World
from .acts import Acts
from .oracle import ACTIONS
from .rollout import How, drive
from .scene import PERIOD_NS
from .timing import FixedTime

_SEEDS = 500_000  # neither trained on nor held out
_DELAYS_S = (0.1, 0.2, 0.3)
_EVERY = 5
_PAUSE_NS = 2_000_000_000
_TIMES = (
    "tick_ns",
    "captured_ns",
    "command_captured_ns",
    "chunk_captured_ns",
    "chunk_arrived_ns",
    "sense_ns",
)
_OF_ALL = ("variants", "routes")


def calibrate(
    task: Task, world: World, deployed: Acts, plan: str, episodes: int, out: Path
) -> None:
    """Drive some episodes, and write the tables of them with a full-size plan's variants."""
    seen, fresh = recorded(task, world, deployed, episodes, out)
    names, reader = [one.name for one in read_bundle(Path(plan)).plan.variants], deployed.reader()
    exact = np.zeros((len(names), len(range(0, seen.ticks, _EVERY)), reader.width))
    tables, _ = fit_tables(seen, reader, fresh, names, exact, _EVERY)
    write_tables(out, tables)


def recorded(
    task: Task, world: World, deployed: Acts, episodes: int, out: Path
) -> tuple[Episodes, np.ndarray]:
    """Episodes at several delays, and the chunk of every tick's own observation, [N, T, W]."""
    made = []
    for index in range(episodes):
        timing = FixedTime(_DELAYS_S[index % len(_DELAYS_S)])
        recorder = Recorder(out, timing.routes, deployed.reader(), PERIOD_NS * 1e-9)
        drive(task, world, deployed, _SEEDS + index, timing, How(Periodic), record=recorder)
        made.append(recorder.episodes())
    seen = joined(made)
    return seen, np.stack([_fresh(deployed, seen, tick) for tick in range(seen.ticks)])


def _fresh(policy: Acts, seen: Episodes, tick: int) -> np.ndarray:
    """The chunk of a tick's own observation, as commands."""
    given = {name: rows[tick] for name, rows in seen.observation.items()}
    return policy.reader().read(policy.act(given)[ACTIONS], given)


def joined(several: Sequence[Episodes]) -> Episodes:
    """Episodes that each begin at 0, one after the other with a pause."""
    moved, ticks, chunks, now_ns = [], 0, 0, 0
    for one in several:
        times: dict[str, Any] = {name: getattr(one, name) + now_ns for name in _TIMES}
        numbers: dict[str, Any] = {
            "inference": np.where(one.inference < 0, -1, one.inference + chunks),
            "chunk_number": one.chunk_number + chunks,
            "chunk_tick": one.chunk_tick + ticks,
            "episode": one.episode + ticks,
        }
        moved.append(replace(one, **times, **numbers))
        ticks, chunks = ticks + one.ticks, chunks + int(one.chunk_number.max(initial=0)) + 1
        now_ns = int(times["tick_ns"][-1]) + _PAUSE_NS
    first = moved[0]
    arrays: dict[str, Any] = {
        item.name: np.concatenate([getattr(one, item.name) for one in moved])
        for item in fields(Episodes)
        if isinstance(getattr(first, item.name), np.ndarray) and item.name not in _OF_ALL
    }
    observed = {
        name: np.concatenate([one.observation[name] for one in moved]) for name in first.observation
    }
    return replace(first, **arrays, observation=observed)
