"""An episode as it goes: its world, what a policy sees of it, and what it came to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from vlacut.control.report import CommandReport, Route

from ..simulation.arm import RATE
from ..simulation.disturbances import Disturb
from ..simulation.tasks import TASKS, Task, begin
from ..simulation.world import SUBSTEPS, Sensed, World
from ..training.episodes import sentence
from .acts import Acts
from .sight import Sight

PERIOD_NS = 1_000_000_000 // RATE
_SAMPLE_NS = PERIOD_NS // SUBSTEPS


@dataclass
class Run:
    """What an episode came to.

    Attributes:
        success: whether the task was done in time.
        ticks: it took.
        reports: of every tick.
        sensed: of every tick.
        ran: route and seconds of every inference that was begun.
    """

    success: bool = False
    ticks: int = 0
    reports: list[CommandReport] = field(default_factory=list)
    sensed: list[Sensed] = field(default_factory=list)
    ran: list[tuple[Route, float]] = field(default_factory=list)


class Scene:
    """An episode that begins: its world is reset, and a policy sees it."""

    def __init__(
        self,
        task: Task,
        world: World,
        policy: Acts,
        seed: int,
        disturb: Disturb | None = None,
    ) -> None:
        self.task, self.world, self._episode = task, world, begin(task, world, seed)
        told = sentence(task.name, self._episode)
        self.sight = Sight(world, self._episode, policy.seen, told, seed, disturb)

    def step(self, tick: int, command: np.ndarray | None, run: Run) -> bool:
        """A tick of the world, noted; whether the task is done. No command keeps the last one."""
        self._episode.move(self.world, tick)
        run.sensed.append(self.world.step(self.world.command if command is None else command))
        run.ticks = tick + 1
        run.success = self.task.done(self.world, self._episode)
        return run.success


def sampled(
    sensed: Sensed, now_ns: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, int]]:
    """The samples of a tick that began at a time: joints, and when each was taken."""
    for at in range(SUBSTEPS):
        when = now_ns + (at + 1) * _SAMPLE_NS
        yield sensed.q[at], sensed.qd[at], sensed.tau[at], when


def world_of(name: str) -> tuple[Task, World]:
    """A task and its world."""
    task = TASKS[name]
    return task, World(task.xml)
