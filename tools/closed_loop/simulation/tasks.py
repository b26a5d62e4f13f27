"""Tasks: what stands in the scene, how an episode begins, what moves, and when it has succeeded.

- `pick`: two blocks on a belt that stands; the one that the instruction names goes into the bin.
- `belt`: the same on a belt that moves and changes its speed while the arm works.
- `insert`: a peg in the hand goes into a hole with sloping edges; contact guides it in.

An episode is drawn from its seed alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import mujoco
import numpy as np

from .arm import HOME, RATE, scene_xml
from .things import (
    BELT_TOP,
    BIN,
    BIN_HALF,
    BLOCK,
    CLEAR,
    COLOURS,
    HOLE_TOP,
    INSERTION,
    PEG,
    TABLE,
    WALL,
)
from .world import World


@dataclass
class Task:
    """An episode's rules.

    Attributes:
        name: of the task.
        xml: its scene.
        instructions: the words a policy may be told, by index.
        most_ticks: after which an episode has failed.
        place: draws an episode, and says which instruction it has.
        done: whether the episode has succeeded.
    """

    name: str
    xml: str
    instructions: tuple[str, ...]
    most_ticks: int
    place: Callable[[World, np.random.Generator], Episode]
    done: Callable[[World, Episode], bool]


@dataclass
class Episode:
    """What was drawn for one episode.

    Attributes:
        instruction: index into the task's instructions.
        speeds: of the belt, m/s, and from which tick on.
        target: name of the body that the instruction means.
    """

    instruction: int
    target: str
    speeds: tuple[tuple[int, float], ...] = ()
    notes: dict[str, float] = field(default_factory=dict)

    def speed(self, tick: int) -> float:
        """Of the belt in a tick, m/s."""
        return next((speed for begins, speed in reversed(self.speeds) if tick >= begins), 0.0)

    def move(self, world: World, tick: int) -> None:
        """Let the scene do what it does by itself."""
        if self.speeds:
            world.data.qvel[world.model.joint("belt").dofadr[0]] = self.speed(tick)


def _set_free(world: World, name: str, place: np.ndarray, yaw: float) -> None:
    at = world.model.body(name).jntadr[0]
    start = world.model.jnt_qposadr[at]
    turn = (np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2))
    world.data.qpos[start : start + 7] = (*place, *turn)


def _place_blocks(moving: bool) -> Callable[[World, np.random.Generator], Episode]:
    def place(world: World, numbers: np.random.Generator) -> Episode:
        instruction = int(numbers.integers(len(COLOURS)))
        lowest, highest = (-0.30, 0.0) if moving else (-0.15, 0.25)
        while True:
            spots = numbers.uniform((0.44, lowest), (0.56, highest), (len(COLOURS), 2))
            if np.linalg.norm(spots[0] - spots[1]) > 0.11:
                break
        for name, spot in zip(COLOURS, spots, strict=True):
            where = np.array([*spot, BELT_TOP + BLOCK])
            _set_free(world, name, where, float(numbers.uniform(-np.pi / 4, np.pi / 4)))
        speeds: tuple[tuple[int, float], ...] = ((0, 0.0),)
        if moving:
            first, then = numbers.uniform(0.01, 0.06, 2)
            change = int(numbers.integers(RATE, 3 * RATE))
            speeds = ((0, float(first)), (change, float(then)))
        mujoco.mj_forward(world.model, world.data)
        return Episode(instruction, COLOURS[instruction], speeds)

    return place


def _in_bin(world: World, episode: Episode) -> bool:
    place = world.data.body(episode.target).xpos
    inside = np.abs(place[:2] - BIN).max() < BIN_HALF
    return bool(inside and place[2] < WALL)


def _place_peg(world: World, numbers: np.random.Generator) -> Episode:
    spot = numbers.uniform((0.40, -0.20), (0.58, 0.20))
    yaw = float(numbers.uniform(-0.35, 0.35))
    world.data.mocap_pos[0] = (*spot, 0.0)
    world.data.mocap_quat[0] = (np.cos(yaw / 2), 0, 0, np.sin(yaw / 2))
    held = numbers.uniform(-0.006, 0.006)  # the peg is not always held alike
    _set_free(world, "peg", world.tool + np.array([held, 0, -0.02]), world.yaw)
    world.data.ctrl[-2:] = 0.0
    world.data.qpos[7:9] = PEG
    mujoco.mj_forward(world.model, world.data)
    return Episode(0, "hole", notes={"yaw": yaw})


def _inserted(world: World, episode: Episode) -> bool:
    peg, hole = world.data.body("peg"), world.data.body("hole")
    near = np.linalg.norm(peg.xpos[:2] - hole.xpos[:2]) < PEG + CLEAR
    return bool(near and peg.xpos[2] - 0.05 < HOLE_TOP - 0.025)


TASKS = {
    task.name: task
    for task in (
        Task("pick", scene_xml(TABLE), COLOURS, 15 * RATE, _place_blocks(False), _in_bin),
        Task("belt", scene_xml(TABLE), COLOURS, 15 * RATE, _place_blocks(True), _in_bin),
        Task("insert", scene_xml(INSERTION), ("insert",), 12 * RATE, _place_peg, _inserted),
    )
}


def begin(task: Task, world: World, seed: int) -> Episode:
    """A world reset to the first tick of an episode."""
    world.reset()
    numbers = np.random.default_rng(seed)
    world.data.qpos[:7] = np.array(HOME) + numbers.normal(0, 0.02, 7)
    mujoco.mj_forward(world.model, world.data)
    world.hold()
    episode = task.place(world, numbers)
    if task.name == "insert":
        world.command[4] = 1.0
    return episode
