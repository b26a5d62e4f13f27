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
from .world import World

BLOCK = 0.02  # m, half of a block's side
BELT_TOP = 0.04  # m
BIN = np.array([0.28, -0.36])  # its middle, x and y in m
_BIN_HALF, _WALL = 0.075, 0.05
PEG = 0.012  # m, half of the peg's side
HOLE_TOP, HOLE_DEEP = 0.06, 0.045
_CLEAR = 0.005  # m between the peg and the hole's sides, each
_COLOURS = ("red", "green")

_BLOCKS = "".join(
    f'<body name="{name}" pos="0.5 {y} 0.06"><freejoint/><geom type="box" '
    f'size="{BLOCK} {BLOCK} {BLOCK}" mass="0.05" rgba="{rgba}" friction="1.2 0.02 0.001" '
    f'condim="4"/></body>'
    for name, y, rgba in (("red", 0.1, "0.85 0.1 0.1 1"), ("green", -0.1, "0.1 0.65 0.2 1"))
)
_BELT = f"""
<body name="belt" pos="0.5 0 {BELT_TOP - 0.02}">
  <joint name="belt" type="slide" axis="0 1 0" damping="0" armature="50"/>
  <geom type="box" size="0.10 2.5 0.02" mass="5" rgba="0.2 0.2 0.22 1" friction="1.2 0.02 0.001"/>
</body>
"""


def _box(x: float, y: float, z: float, size: str, extra: str = "") -> str:
    return f'<geom type="box" pos="{x} {y} {z}" size="{size}" rgba="0.2 0.35 0.75 1" {extra}/>'


def _bin() -> str:
    x, y, half = BIN[0], BIN[1], _BIN_HALF
    long, high = f"0.005 {half} {_WALL / 2}", _WALL / 2
    wide = f"{half} 0.005 {_WALL / 2}"
    walls = [_box(x + side * half, y, high, long) for side in (-1, 1)]
    walls += [_box(x, y + side * half, high, wide) for side in (-1, 1)]
    return "".join([*walls, _box(x, y, 0.003, f"{half} {half} 0.003")])


def _hole() -> str:
    """Four walls around the hole, their inner edges sloping; a mocap body, so that it is placed."""
    inner, wall = PEG + _CLEAR, 0.02
    place, high = inner + wall, HOLE_TOP / 2
    slope = f'size="{place} 0.016 0.002"'
    parts = []
    for turn in range(4):
        parts.append(
            f'<body euler="0 0 {turn * np.pi / 2}">'
            f'<geom type="box" pos="0 {place} {high - 0.006}" rgba="0.2 0.35 0.75 1" '
            f'size="{place + wall} {wall} {high - 0.006}" friction="0.15 0.005 0.001"/>'
            f'<geom type="box" pos="0 {inner + 0.011} {HOLE_TOP - 0.007}" euler="0.6 0 0" {slope} '
            f'rgba="0.9 0.75 0.2 1" friction="0.1 0.005 0.001"/></body>'
        )
    return f'<body name="hole" mocap="true" pos="0.5 0 0">{"".join(parts)}</body>'


_PEG = (
    f'<body name="peg" pos="0.3 0 0.44"><freejoint/><geom type="box" '
    f'size="{PEG} {PEG} 0.05" mass="0.05" rgba="0.85 0.1 0.1 1" friction="1.2 0.05 0.001" '
    f'condim="4"/></body>'
)


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
        instruction = int(numbers.integers(len(_COLOURS)))
        lowest, highest = (-0.30, 0.0) if moving else (-0.15, 0.25)
        while True:
            spots = numbers.uniform((0.44, lowest), (0.56, highest), (len(_COLOURS), 2))
            if np.linalg.norm(spots[0] - spots[1]) > 0.11:
                break
        for name, spot in zip(_COLOURS, spots, strict=True):
            where = np.array([*spot, BELT_TOP + BLOCK])
            _set_free(world, name, where, float(numbers.uniform(-np.pi / 4, np.pi / 4)))
        speeds: tuple[tuple[int, float], ...] = ((0, 0.0),)
        if moving:
            first, then = numbers.uniform(0.01, 0.06, 2)
            change = int(numbers.integers(RATE, 3 * RATE))
            speeds = ((0, float(first)), (change, float(then)))
        mujoco.mj_forward(world.model, world.data)
        return Episode(instruction, _COLOURS[instruction], speeds)

    return place


def _in_bin(world: World, episode: Episode) -> bool:
    place = world.data.body(episode.target).xpos
    inside = np.abs(place[:2] - BIN).max() < _BIN_HALF
    return bool(inside and place[2] < _WALL)


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
    near = np.linalg.norm(peg.xpos[:2] - hole.xpos[:2]) < PEG + _CLEAR
    return bool(near and peg.xpos[2] - 0.05 < HOLE_TOP - 0.025)


_TABLE = _BLOCKS + _BELT + _bin()
TASKS = {
    task.name: task
    for task in (
        Task("pick", scene_xml(_TABLE), _COLOURS, 15 * RATE, _place_blocks(False), _in_bin),
        Task("belt", scene_xml(_TABLE), _COLOURS, 15 * RATE, _place_blocks(True), _in_bin),
        Task("insert", scene_xml(_PEG + _hole()), ("insert",), 12 * RATE, _place_peg, _inserted),
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
