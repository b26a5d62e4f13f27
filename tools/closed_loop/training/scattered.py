"""Scenes without a story: the arm and what it works on, anywhere, for a policy's eyes alone.

In episodes the tool is nearly always where it should be, so where things are can be guessed from
proprioception, and a policy that is elsewhere sees badly. A scattered scene takes no physics:
joints and blocks are put in their places, rendered, and said where they are.
"""

from __future__ import annotations

import numpy as np

from ..policies.policy import BEFORE, CHUNK, DIMS
from ..simulation.arm import HOME, OPEN, RATE
from ..simulation.expert import facts
from ..simulation.tasks import TASKS, Episode, begin
from ..simulation.things import BLOCK, HOLE_TOP, PEG
from ..simulation.world import World
from .episodes import Observation, feeling, sentence

_FAST = 0.06  # m/s, of the belt
_LOW, _HIGH = np.array([0.30, -0.42, 0.06]), np.array([0.62, 0.48, 0.42])  # m, of the tool
_NEAR, _HELD = 0.7, 0.85  # shares of the scenes: near the target; up to here, and then in the hand
_OFTEN, _LIES = 0.75, 0.006  # the share over the hole; m that a peg is off in the hand
_PEG_LOW, _PEG_HIGH = np.array([0.28, -0.25, 0.15]), np.array([0.62, 0.25, 0.50])  # m, of the tool
_JOINTS = 7


def scatter(task: str, world: World, seed: int) -> Observation:
    """A scene as a sample without a label."""
    numbers = np.random.default_rng((seed, 6))
    episode = begin(TASKS[task], world, seed)
    if episode.target == "hole":
        return _scattered_peg(task, world, episode, numbers)
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
    return _sample(task, world, episode, before)


def _sample(task: str, world: World, episode: Episode, before: np.ndarray) -> Observation:
    return {
        "front": world.picture("front"),
        "before": before,
        "wrist": world.picture("wrist"),
        "words": sentence(task, episode),
        **feeling(world),
        "facts": facts(world, episode, 0),
        "chunk": np.zeros((CHUNK, DIMS), np.float32),
        "labelled": np.array(0, np.float32),
    }


def _scattered_peg(
    task: str, world: World, episode: Episode, numbers: np.random.Generator
) -> Observation:
    """A peg in the hand, mostly not far over the hole."""
    peg, hole = _place(world, "peg"), world.data.mocap_pos[0].copy()
    far = numbers.random() >= _OFTEN
    tool = numbers.uniform(_PEG_LOW, _PEG_HIGH)
    if not far:
        tool[:2] = hole[:2] + numbers.normal(0, numbers.choice([0.006, 0.03]), 2)
        tool[2] = HOLE_TOP + numbers.uniform(0.075, 0.2)
    yaw, lies = numbers.normal(0, 0.25), numbers.uniform(-_LIES, _LIES)
    world.command = np.array([*tool, yaw, 1.0])
    world.pose(np.array(HOME), PEG)
    # A tool that turns takes the peg with it.
    lean = np.array([lies * np.cos(world.yaw), lies * np.sin(world.yaw), -0.02])
    half = world.yaw / 2
    world.data.qpos[peg : peg + 7] = *(world.tool + lean), np.cos(half), 0, 0, np.sin(half)
    now = world.data.qpos.copy()
    world.data.qpos[:_JOINTS] += numbers.normal(0, 0.03, _JOINTS)
    world.show()
    before = world.picture("front")
    world.data.qpos[:] = now
    world.show()
    world.command[:4] += numbers.normal(0, (0.012, 0.012, 0.012, 0.05))
    return _sample(task, world, episode, before)


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
