"""What a training gathers, round by round: which episodes and scenes, and who drives them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..policies.flow import FlowPolicy
from ..policies.heads import Net, load
from ..policies.policy import CHUNK, DIMS
from ..simulation.tasks import TASKS
from ..simulation.world import World
from .episodes import Actor, Observation, gather, succeeds
from .samples import Samples, Share
from .scattered import scatter

_DEMOS = {"pick": 40, "belt": 160, "insert": 240}
_DAGGER = {"pick": 20, "belt": 80, "insert": 160}  # episodes per round
_TRIED = {"pick": 4, "belt": 12, "insert": 24}  # episodes that a policy drives alone, per round
_FEW = 2  # steps of the flow while samples are gathered
_SCATTERED = {"pick": 800, "belt": 3200, "insert": 3000}  # scenes
_SCENES = 800_000  # seeds from here on are of these
_ALONE = 900_000  # seeds from here on are of episodes that only tell how it goes


def actor_of(net: Net) -> Actor:
    """A policy as what drives an episode; a flow in `_FEW` steps."""

    def act(observation: Observation, numbers: np.random.Generator) -> np.ndarray:
        given = {name: torch.from_numpy(array) for name, array in observation.items()}
        with torch.inference_mode():
            if not isinstance(net, FlowPolicy):
                return np.asarray(net.act(given).numpy())
            noise = numbers.normal(size=(CHUNK, DIMS)).astype(np.float32)
            return np.asarray(net.act({**given, "noise": torch.from_numpy(noise)}, _FEW).numpy())

    return act


@dataclass(frozen=True)
class Effort:
    """How much is done.

    Attributes:
        tasks: that are learnt.
        scale: share of the episodes.
        steps: of AdamW a turn; flow's first and last turns have twice as many, and so has the first
            of `tokens`.
        rounds: of DAgger, in which flow drives.
        driven: of those in which `tokens` drives.
        seed: of everything.
    """

    tasks: tuple[str, ...]
    scale: float
    steps: int
    rounds: int
    driven: int
    seed: int

    @property
    def touches(self) -> bool:
        """Whether `touch` is trained, in flow's place."""
        return "insert" in self.tasks

    @property
    def turns(self) -> range:
        """Of flow: demonstrations and scattered scenes, then the rounds."""
        return range(self.rounds + 1)

    @property
    def own(self) -> range:
        """Of `tokens`: all of flow's samples, then the rounds."""
        return range(self.rounds + 1, self.rounds + 2 + self.driven)

    def begins(self, turn: int) -> bool:
        """Whether a policy's training begins with a turn."""
        return turn in (0, self.own[0])

    def gathers(self, turn: int) -> bool:
        """Whether a turn has samples of its own."""
        return turn != self.own[0]

    def asked(self, turn: int) -> list[tuple[str, int]]:
        """Tasks and seeds of a turn's episodes."""
        return [
            (task, 10_000 * turn + index)
            for task in self.tasks
            for index in range(max(4, round(self.scale * (_DAGGER if turn else _DEMOS)[task])))
        ]

    def scattered(self) -> list[tuple[str, int]]:
        """Tasks and seeds of the scattered scenes."""
        return [
            (task, _SCENES + index)
            for task in self.tasks
            for index in range(round(self.scale * _SCATTERED.get(task, 0)))
        ]

    def taken(self, turn: int) -> int:
        """Steps of a turn."""
        return self.steps * (2 if self.begins(turn) or turn == self.rounds else 1)


def fill(
    effort: Effort, turn: int, share: Share, folder: Path, weights: Path, name: str = ""
) -> str:
    """Gather a share of a turn's samples into a folder; what the policy of a name, if there is one
    that drives, did alone, in words.
    """
    worlds = {task: World(TASKS[task].xml) for task in effort.tasks}
    actor = actor_of(load(name, weights)) if name else None
    samples, scenes = Samples(), Samples()
    if turn == 0:
        asked = share.of(effort.scattered())
        scenes.extend([scatter(task, worlds[task], seed) for task, seed in asked])
        scenes.write(folder / f"scattered{share.rank}.npz")
    for task, seed in share.of(effort.asked(turn)):
        samples.extend(gather(task, worlds[task], seed, actor))
    won: dict[str, list[bool]] = {}
    if actor is not None:
        for task in effort.tasks:
            for seed in share.of(range(_ALONE, _ALONE + _TRIED[task])):
                won.setdefault(task, []).append(succeeds(task, worlds[task], seed, actor))
    samples.write(folder / f"samples{share.rank}.npz")
    for world in worlds.values():
        world.close()
    return ", ".join(f"{key} {sum(all_)} of {len(all_)}" for key, all_ in won.items())
