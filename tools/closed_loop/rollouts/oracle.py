"""The expert as a policy: it sees the state of the world, not pictures, and plays chunks.

It plans in a world of its own, from the scene as it was when it was captured, as if the belt kept
its speed and its commands were carried out from then on. So what is lost is lost to time, and not
to a policy's eyes. With the executor `rtc` it is told which commands will be executed meanwhile,
and plans from where those lead, as VLASH rolls the state forward (arXiv 2605.08168 compares it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vlacut.control.rtc import PREV_CHUNK, WEIGHTS
from vlacut.control.ways.chunk import ChunkReader, ChunkSpec
from vlacut.tensor import TensorSpec

from ..policies.policy import CHUNK, DIMS
from ..simulation.arm import RATE
from ..simulation.expert import chunk, expert
from ..simulation.tasks import TASKS, Episode
from ..simulation.world import COMMAND, Saved, World

SCENE, ACTIONS = "scene", "actions"
SWITCHED = (4,)
_JOINTS = 7


def scene_of(world: World, episode: Episode, tick: int) -> np.ndarray:
    """All that the oracle plans from: the world's state, and the belt's speed and what is
    wanted.
    """
    saved = world.save()
    about = [episode.speed(tick), float(episode.instruction)]
    return np.concatenate([saved.state, saved.command, saved.target, about])


class Oracle:
    """See the module's docstring.

    Args:
        task: its name.
        length: commands of a chunk.
    """

    doubts = False

    def __init__(self, task: str, length: int = CHUNK) -> None:
        self._length = length
        self._task, self._world = TASKS[task], World(TASKS[task].xml)
        size = scene_of(self._world, Episode(0, ""), 0).size
        actions = TensorSpec(ACTIONS, "float32", (length, DIMS))
        self.inputs: Mapping[str, TensorSpec] = {
            SCENE: TensorSpec(SCENE, "float64", (size,)),
            PREV_CHUNK: TensorSpec(PREV_CHUNK, "float32", (length, DIMS)),
            WEIGHTS: TensorSpec(WEIGHTS, "float32", (length,)),
        }
        self.seen: Sequence[str] = (SCENE,)
        self._actions = actions

    def act(
        self, observation: Mapping[str, np.ndarray], variant: int = 0
    ) -> Mapping[str, np.ndarray]:
        """The chunk of a scene; its first commands are those that will be executed, if told."""
        scene = np.asarray(observation[SCENE])
        about = scene[:-2]
        state, rest = np.split(about, [about.size - COMMAND - _JOINTS])
        self._world.restore(Saved(state, rest[:COMMAND].copy(), rest[COMMAND:].copy()))
        wanted = int(scene[-1])
        target = "hole" if self._task.name == "insert" else self._task.instructions[wanted]
        speeds = ((0, float(scene[-2])),) if self._task.name != "insert" else ()
        episode = Episode(wanted, target, speeds)
        if WEIGHTS not in observation:
            made = chunk(self._world, episode, 0, self._length)
        else:
            fixed = int((observation[WEIGHTS] == 1).sum())
            made = self._continued(episode, observation[PREV_CHUNK][:fixed])
        return {ACTIONS: made.astype(np.float32)}

    def _continued(self, episode: Episode, fixed: np.ndarray) -> np.ndarray:
        made = []
        for tick in range(self._length):
            episode.move(self._world, tick)
            is_fixed = tick < len(fixed)
            self._world.skip(fixed[tick] if is_fixed else expert(self._world, episode, tick))
            made.append(self._world.command.copy())
        return np.array(made)

    def reader(self, horizon: int = CHUNK) -> ChunkReader:
        """Of its chunks."""
        spec = ChunkSpec(ACTIONS, switched=SWITCHED, horizon=horizon)
        return ChunkReader(spec, self._actions, {}, 1 / RATE)
