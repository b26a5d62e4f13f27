"""A cell of a table: one way to drive one task, over many episodes; plain data, so it is a key."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from vlacut.bundle.reading import read_bundle
from vlacut.control.controllers.naming import make_controller
from vlacut.control.tables import ActionTables, read_tables
from vlacut.hardware.trace import Trace, read_recordings

from ..policies.policy import CHUNK
from ..rollouts.acts import Acts
from ..rollouts.deployed import Deployed
from ..rollouts.oracle import Oracle
from ..rollouts.precise import Several, routes
from ..rollouts.rollout import How, drive, wait_for
from ..rollouts.scene import world_of
from ..rollouts.timing import FixedTime, Network, PlanTime, Timing
from ..simulation.disturbances import make_disturbance
from ..simulation.tasks import Task
from ..simulation.world import World
from .outcomes import Outcome, outcome_of

EXPERT = "expert"  # in a policy's place
HELD_OUT = 1_000_000  # seeds from here on are never trained on
_LONGEST_S = 16.0  # of an episode


@dataclass(frozen=True)
class Cell:
    """One way to drive one task.

    Attributes:
        task: its name.
        policy: a bundle of the policy.
        delay_s: of every inference; none where a plan says it, and where the world waits.
        plan: a full-size bundle that says what inferences take; none if empty.
        traces: a folder of recorded networks for that.
        selector: of that plan's variants, where the controller chooses none.
        controller, options: see `vlacut.control.controllers.naming`.
        executor, playing, horizon: see `rollout.How`; the expert makes chunks as long as that.
            Where the world waits it does so for a chunk every `horizon` ticks.
        tables: of action errors, a file; none if empty.
        disturbance: of the pictures; none if empty.
        waits: whether the world waits for every inference.
        precise: names and bundles of the policy in other precisions, which are variants then.
    """

    task: str
    policy: str
    delay_s: float | None = None
    plan: str = ""
    traces: str = ""
    selector: str = "argmin"
    controller: str = "periodic"
    options: tuple[tuple[str, Any], ...] = ()
    executor: str = "async"
    playing: str = "aligned"
    horizon: int = CHUNK
    tables: str = ""
    disturbance: str = ""
    waits: bool = False
    precise: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str:
        """A name for all of it: paths count by their last part."""
        said = asdict(self)
        said["precise"] = [name for name, _ in self.precise]
        for name in ("policy", "plan", "traces", "tables"):
            said[name] = Path(said[name]).name
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


class Stage:
    """What a process needs for episodes: worlds, engines, plans and recordings, each once."""

    def __init__(self, threads: int = 1) -> None:
        self._worlds = cache(world_of)
        self._oracles = cache(Oracle)
        self._policies = cache(lambda path: Deployed(Path(path), threads))

    def run(self, cell: Cell, seed: int) -> Outcome:
        """One episode."""
        task, world = self.world(cell.task)
        policy, disturb = self.policy(cell.policy, cell.task, cell.horizon), None
        if cell.precise:
            policy = Several([policy, *(self.policy(path, cell.task) for _, path in cell.precise)])
        if cell.disturbance:
            disturb = make_disturbance(cell.disturbance, seed)
        if cell.waits:
            return outcome_of(seed, wait_for(task, world, policy, seed, cell.horizon, disturb))
        timing = timing_of(cell, seed)
        return outcome_of(
            seed, drive(task, world, policy, seed, timing, how(cell, timing), disturb)
        )

    def world(self, task: str) -> tuple[Task, World]:
        """A task and its world."""
        return self._worlds(task)

    def policy(self, path: str, task: str, horizon: int = CHUNK) -> Acts:
        """A policy's engines, or the expert."""
        if path == EXPERT:
            return self._oracles(task, max(CHUNK, horizon))
        return self._policies(path)


def how(cell: Cell, timing: Timing) -> How:
    """How a cell's robot is driven."""
    tables = _tables(cell.tables) if cell.tables else None

    def controller() -> Any:
        given = dict(cell.options)
        return make_controller(cell.controller, timing.routes, tables=tables, entropy=True, **given)

    scale = {"scale": tables.motion} if tables else {}
    return How(controller, cell.executor, cell.playing, cell.horizon, **scale)


def timing_of(cell: Cell, seed: int) -> Timing:
    """What inferences take in an episode of a cell: a seed has the same recording in all cells."""
    if not cell.plan:
        assert cell.delay_s is not None
        return FixedTime(cell.delay_s, routes([name for name, _ in cell.precise]))
    index, begins_s = drawn(cell.traces, seed)
    history = recordings(cell.traces)[1]
    return PlanTime(_network(cell.plan, cell.traces, index), begins_s, cell.selector, history)


def drawn(traces: str, seed: int) -> tuple[int, float]:
    """Which recording an episode has, and from which second on."""
    numbers, tested = np.random.default_rng((seed, 5)), recordings(traces)[0]
    index = int(numbers.integers(len(tested)))
    return index, float(numbers.uniform(0, max(0.0, sum(tested[index].seconds) - _LONGEST_S)))


@cache
def recordings(folder: str) -> tuple[list[Trace], list[tuple[float, ...]]]:
    """Recordings to drive over, long enough for an episode; and every second one for thresholds."""
    found = [piece for pieces in read_recordings(Path(folder)).values() for piece in pieces]
    usable = [one for one in found if sum(one.seconds) > _LONGEST_S and max(one.rates) > 0]
    return usable[::2], [one.sampled(0.1) for one in usable[1::2]][:24]


@cache
def _network(plan: str, traces: str, index: int) -> Network:
    return Network(read_bundle(Path(plan)).plan, recordings(traces)[0][index])


@cache
def _tables(path: str) -> ActionTables:
    return read_tables(Path(path))
