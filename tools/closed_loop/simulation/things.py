"""What stands in the tasks' scenes, as MJCF."""

from __future__ import annotations

import numpy as np

BLOCK = 0.02  # m, half of a block's side
BELT_TOP = 0.04  # m
BIN = np.array([0.28, -0.36])  # its middle, x and y in m
BIN_HALF, WALL = 0.075, 0.05
PEG = 0.012  # m, half of the peg's side
HOLE_TOP = 0.06
CLEAR = 0.005  # m between the peg and the hole's sides, each
COLOURS = ("red", "green")

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
    x, y, half = BIN[0], BIN[1], BIN_HALF
    long, high = f"0.005 {half} {WALL / 2}", WALL / 2
    wide = f"{half} 0.005 {WALL / 2}"
    walls = [_box(x + side * half, y, high, long) for side in (-1, 1)]
    walls += [_box(x, y + side * half, high, wide) for side in (-1, 1)]
    return "".join([*walls, _box(x, y, 0.003, f"{half} {half} 0.003")])


def _hole() -> str:
    """Four walls around the hole, their inner edges sloping; a mocap body, so that it is placed."""
    inner, wall = PEG + CLEAR, 0.02
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

TABLE = _BLOCKS + _BELT + _bin()
INSERTION = _PEG + _hole()
