"""Scripted experts: a command from the state of the world alone, without memory.

So any state that a policy gets into can be labelled, and the labels of a chunk are what the expert
does in a copy of the world.
"""

from __future__ import annotations

import numpy as np

from .tasks import Episode
from .things import BELT_TOP, BIN, BLOCK, HOLE_TOP
from .world import World

_ABOVE, _CARRY = 0.10, 0.21  # m over the floor: where it waits over a block, and carries it
_NEAR = 0.012  # m
_LEAD_S = 0.09  # what a command takes to be where it says
_SQUARE = 0.0  # rad: the gripper opens to twice a block's side, so it need not turn to it
_PEG_LONG = 0.05  # m, half of it
_OVER, _TURNED = 0.008, 0.15  # m, rad: off by less, a peg is guided in


def expert(world: World, episode: Episode, tick: int) -> np.ndarray:
    """The command for this tick, `[5]`: x, y, z, yaw, grip."""
    if episode.target == "hole":
        return _insert(world)
    return _fetch(world, episode, tick)


def _fetch(world: World, episode: Episode, tick: int) -> np.ndarray:
    block = world.data.body(episode.target)
    place, tool = np.array(block.xpos), world.tool
    held = np.linalg.norm(place - tool) < 0.022 and world.opening < 0.75
    if np.abs(place[:2] - BIN).max() < 0.07 and not held:
        return np.array([*BIN, _CARRY, _SQUARE, 0.0])  # done: wait above
    if held and world.command[4] > 0.5:
        return _carry(world, place)
    ahead = np.array([0.0, episode.speed(tick) * _LEAD_S])
    goal = place[:2] + ahead
    off = float(np.linalg.norm(goal - tool[:2] - ahead))
    grasp = BELT_TOP + BLOCK
    low = tool[2] < grasp + 0.012
    if low and off < 2 * _NEAR:
        return np.array([*goal, grasp, _SQUARE, 1.0])
    ready = off < _NEAR * (1.0 if tool[2] > _ABOVE - 0.02 else 2.0)
    return np.array([*goal, grasp if ready else _ABOVE, _SQUARE, 0.0])


def _carry(world: World, place: np.ndarray) -> np.ndarray:
    still = np.abs(world.data.qvel[7:9]).max() < 0.01
    tool = world.tool
    if not still and tool[2] < 0.09:
        return np.array([*world.command[:3], _SQUARE, 1.0])
    over = np.linalg.norm(tool[:2] - BIN)
    if over < 0.03:
        return np.array([*BIN, 0.14, _SQUARE, float(tool[2] > 0.165)])
    # It rises first, and goes over once nothing is in the way.
    if tool[2] < 0.13:
        return np.array([*world.command[:2], _CARRY, _SQUARE, 1.0])
    return np.array([*BIN, _CARRY, _SQUARE, 1.0])


def _insert(world: World) -> np.ndarray:
    peg, hole = world.data.body("peg"), world.data.body("hole")
    held = np.array(peg.xpos) - world.tool
    away = np.array(peg.xpos[:2]) - hole.xpos[:2]
    off = float(np.linalg.norm(away))
    turn = _nearest(_yaw_of(hole.xmat) - _yaw_of(peg.xmat))
    goal, yaw = hole.xpos[:2] - held[:2], world.command[3] + turn
    tip = float(peg.xpos[2]) - _PEG_LONG
    over = HOLE_TOP + 0.03 - held[2] + _PEG_LONG
    inside = tip < HOLE_TOP - 0.010 and off < _OVER
    if inside or (off < _OVER and abs(turn) < _TURNED):
        # Down with little force: not further below what is reached than a few millimetres.
        deep = max(HOLE_TOP - 0.035 - held[2] + _PEG_LONG, float(world.tool[2]) - 0.018)
        return np.array([*goal, deep, yaw, 1.0])
    return np.array([*goal, over, yaw, 1.0])


def _yaw_of(turn: np.ndarray) -> float:
    matrix = np.asarray(turn).reshape(3, 3)
    return float(np.arctan2(matrix[1, 0], matrix[0, 0]))


def _nearest(angle: float) -> float:
    """The same turn of a square, at most 45 degrees."""
    quarter = np.pi / 2
    return float((angle + quarter / 2) % quarter - quarter / 2)


def chunk(world: World, episode: Episode, tick: int, length: int) -> np.ndarray:
    """What the expert does in the next ticks, `[length, 5]`; the world is left as it was."""
    saved, commands = world.save(), []
    for ahead in range(length):
        episode.move(world, tick + ahead)
        commands.append(expert(world, episode, tick + ahead))
        world.skip(commands[-1])
        commands[-1] = world.command.copy()
    world.restore(saved)
    return np.array(commands)


def facts(world: World, episode: Episode, tick: int) -> np.ndarray:
    """What the expert knows and a picture only shows, `[8]`, about one each.

    Where the goal is from the tool, x, y, z; the turn of a hole against the tool's, twice, as a
    square's; the belt's speed; whether something is held, and how a peg lies in the hand.
    """
    target = world.data.body(episode.target)
    peg = episode.target == "hole"
    held = np.array(world.data.body("peg").xpos if peg else target.xpos) - world.tool
    turn = 4 * (_yaw_of(target.xmat) - world.yaw) if peg else 0.0
    away = (np.array(target.xpos) - world.tool) / 0.1
    grasped = float(peg or (np.linalg.norm(held) < 0.022 and world.opening < 0.75))
    speed, lies = episode.speed(tick) / 0.06, float(held[0]) / 0.01 if peg else 0.0
    return np.array([*away, np.sin(turn), np.cos(turn), speed, grasped, lies], np.float32)
