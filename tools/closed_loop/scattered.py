"""Scenes without a story: the arm and what it works on, anywhere, for a policy's eyes alone.

In episodes the tool is nearly always where it should be, so where things are can be guessed from
proprioception, and a policy that is elsewhere sees badly. A scattered scene takes no physics:
joints and blocks are put in their places, rendered, and said where they are.
"""

from __future__ import annotations

import numpy as np

from .arm import HOME, OPEN, RATE
from .episodes import Observation, sentence
from .expert import facts
from .policy import BEFORE, CHUNK, DIMS
from .tasks import TASKS, Episode, begin
from .things import BLOCK
from .world import World

_FAST = 0.06  # m/s, of the belt
_LOW, _HIGH = np.array([0.30, -0.42, 0.06]), np.array([0.62, 0.48, 0.42])  # m, of the tool
_NEAR, _HELD = 0.7, 0.85  # shares of the scenes: near the target; up to here, and then in the hand
_JOINTS = 7


def scatter(task: str, world: World, seed: int) -> Observation:
    """A scene as a sample without a label; only for tasks with blocks on a belt."""
    numbers = np.random.default_rng((seed, 6))
    episode = begin(TASKS[task], world, seed)
    speed = float(numbers.uniform(0, _FAST)) if task == "belt" else 0.0
    episode = Episode(episode.instruction, episode.target, ((0, speed),))
    blocks = [_place(world, name) for name in TASKS[task].instructions]
    along = numbers.uniform(-0.05, 0.45)
    for block in blocks:
        world.data.qpos[block + 1] += along
    target = _place(world, episode.target)
    _put(world, numbers, target)
    now = world.data.qpos.copy()
    world.data.qpos[:_JOINTS] += numbers.normal(0, 0.03, _JOINTS)
    for block in blocks:
        world.data.qpos[block + 1] -= speed * BEFORE / RATE
    world.show()
    before = world.picture("front")
    world.data.qpos[:] = now
    world.show()
    return {
        "front": world.picture("front"),
        "before": before,
        "wrist": world.picture("wrist"),
        "words": sentence(task, episode),
        "state": world.proprioception,
        "facts": facts(world, episode, 0),
        "chunk": np.zeros((CHUNK, DIMS), np.float32),
        "labelled": np.array(0, np.float32),
    }


def _place(world: World, name: str) -> int:
    """Where a body's place is among all numbers of the state."""
    return int(world.model.jnt_qposadr[world.model.body(name).jntadr[0]])


def _put(world: World, numbers: np.random.Generator, target: int) -> None:
    """The arm, somewhere; a command near it; a block in its hand now and then."""
    block, kind = world.data.qpos[target : target + 3].copy(), numbers.random()
    tool = numbers.uniform(_LOW, _HIGH)
    if kind < _NEAR:
        tool[:2] = block[:2] + numbers.normal(0, 0.05, 2)
        tool[2] = numbers.uniform(_LOW[2], 0.2)
    held = kind >= _HELD
    opening = BLOCK if held else numbers.choice([OPEN, numbers.uniform(0, OPEN)])
    yaw = world.yaw + numbers.normal(0, 0.1)
    world.command = np.array([*tool, yaw, float(opening < OPEN)])
    world.pose(np.array(HOME), float(opening))
    if held:
        world.data.qpos[target : target + 3] = world.tool + numbers.normal(0, 0.004, 3)
        half = (world.yaw + numbers.normal(0, 0.05)) / 2
        world.data.qpos[target + 3 : target + 7] = np.cos(half), 0, 0, np.sin(half)
    world.command[:4] += numbers.normal(0, (0.012, 0.012, 0.012, 0.05))
