"""What a policy is given in a tick: made when somebody looks, since most ticks ask for nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence

import mujoco
import numpy as np

from ..policies.policy import BEFORE, CHUNK, DIMS
from ..simulation.disturbances import Disturb
from ..simulation.tasks import Episode
from ..simulation.world import World
from .oracle import SCENE, scene_of


class Glance(Mapping[str, np.ndarray]):
    """The tensors of a tick's observation by name, each made once, when it is first asked for."""

    def __init__(self, names: Sequence[str], show: Callable[[str], np.ndarray]) -> None:
        self._names, self._show = tuple(names), show
        self._shown: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._shown:
            if name not in self._names:
                raise KeyError(name)
            self._shown[name] = self._show(name)
        return self._shown[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Sight:
    """The cameras of a world, and where everything was of late.

    Args:
        world, episode: that are looked at.
        names: of what the policy takes: pictures, `tokens`, `state`, `torques`, `noise`; or
            `scene`.
        told: words of the instruction.
        seed: of the episode.
        disturb: what happens to pictures.
    """

    def __init__(
        self,
        world: World,
        episode: Episode,
        names: Sequence[str],
        told: np.ndarray,
        seed: int,
        disturb: Disturb | None,
    ) -> None:
        self._world, self._episode, self._names = world, episode, names
        self._told, self._disturb = told, disturb
        self._places: deque[np.ndarray] = deque(maxlen=BEFORE + 1)
        self._seed, self._tick = seed, 0
        self._then = mujoco.MjData(world.model)

    def look(self, tick: int) -> Glance:
        """This tick's; to be called at every tick, and looked at before the world moves."""
        self._tick = tick
        self._places.append(self._world.data.qpos.copy())
        return Glance(self._names, self._show)

    def _show(self, name: str) -> np.ndarray:
        if name == "tokens":
            return self._told
        if name == "state":
            return self._world.proprioception
        if name == "torques":
            return self._world.torques
        if name == SCENE:
            return scene_of(self._world, self._episode, self._tick)
        if name == "noise":
            numbers = np.random.default_rng((self._seed, self._tick, 1))
            return numbers.normal(size=(CHUNK, DIMS)).astype(np.float32)
        if name == "before":
            self._then.qpos[:] = self._places[0]
            self._then.mocap_pos[:] = self._world.data.mocap_pos
            self._then.mocap_quat[:] = self._world.data.mocap_quat
            mujoco.mj_forward(self._world.model, self._then)
            picture = self._world.picture("front", data=self._then)
        else:
            picture = self._world.picture(name)
        if self._disturb is None:
            return picture
        since = BEFORE if name == "before" else 0
        return self._disturb(picture, name == "wrist", max(0, self._tick - since))
