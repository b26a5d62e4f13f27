"""The arm as MJCF: seven torque-controlled joints, a parallel gripper, two cameras.

Lengths, joint and torque limits are those of Franka Robotics' Emika Panda ("Robot and interface
specifications" and the Denavit-Hartenberg table of the Franka Control Interface documentation).
Shapes are primitives of our own and masses are rounded, so that nothing of a foreign model is
needed and two pictures per control step are cheap to render in software.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi

HOME = (0.0, -pi / 4, 0.0, -3 * pi / 4, 0.0, pi / 2, pi / 4)  # the tool points down
LIMITS = (
    (-2.8973, 2.8973),
    (-1.7628, 1.7628),
    (-2.8973, 2.8973),
    (-3.0718, -0.0698),
    (-2.8973, 2.8973),
    (-0.0175, 3.7525),
    (-2.8973, 2.8973),
)
TORQUES = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)  # N m, at most
STIFF = (600.0, 600.0, 600.0, 600.0, 250.0, 150.0, 50.0)  # N m / rad
DAMPED = (50.0, 50.0, 50.0, 50.0, 30.0, 25.0, 15.0)  # N m s / rad
OPEN = 0.04  # m, of each finger
RATE = 20  # commands per second

_X90 = "0.70710678 {} 0 0"
# Of every link: where it begins in its parent's frame, and its turn about x.
_LINKS: Sequence[tuple[str, str, float, str]] = (
    ("0 0 0.333", "1 0 0 0", 3.0, "0 0 -0.12 0 0 0.0"),
    ("0 0 0", _X90.format("-0.70710678"), 3.0, "0 0 0 0 -0.16 0"),
    ("0 -0.316 0", _X90.format("0.70710678"), 2.5, "0 0 -0.12 0.05 0 0"),
    ("0.0825 0 0", _X90.format("0.70710678"), 2.5, "0 0 0 -0.0825 0.12 0"),
    ("-0.0825 0.384 0", _X90.format("-0.70710678"), 2.5, "0 0 -0.2 0 0 0"),
    ("0 0 0", _X90.format("0.70710678"), 1.5, "0 0 0 0.088 0 0"),
    ("0.088 0 0", _X90.format("0.70710678"), 0.7, "0 0 0 0 0 0.09"),
)
_HAND = """
<body name="hand" gravcomp="1" pos="0 0 0.107" quat="0.92387953 0 0 -0.38268343">
  <geom type="box" size="0.03 0.10 0.03" pos="0 0 0.03" mass="0.6" rgba="0.25 0.25 0.28 1"
    contype="0" conaffinity="0"/>
  <camera name="wrist" pos="0.085 0 0.055" xyaxes="0 1 0 0.90 0 0.44" fovy="80"/>
  <site name="tool" pos="0 0 0.1034"/>
  <body name="left" gravcomp="1" pos="0 0 0.0584">
    <joint name="left" type="slide" axis="0 1 0" range="0 0.04" damping="10" armature="0.1"/>
    <geom class="pad" pos="0 0.008 0.036"/>
  </body>
  <body name="right" gravcomp="1" pos="0 0 0.0584">
    <joint name="right" type="slide" axis="0 -1 0" range="0 0.04" damping="10" armature="0.1"/>
    <geom class="pad" pos="0 -0.008 0.036"/>
  </body>
</body>
"""


def arm_xml() -> str:
    """The arm's bodies, one in the other, from its base at the origin on."""
    inner = _HAND
    for index in reversed(range(len(_LINKS))):
        place, turn, mass, capsule = _LINKS[index]
        low, high = LIMITS[index]
        inner = (
            f'<body name="link{index + 1}" gravcomp="1" pos="{place}" quat="{turn}">'
            f'<joint name="joint{index + 1}" range="{low} {high}" damping="1" armature="0.1" '
            f'actuatorgravcomp="true" actuatorfrcrange="-{TORQUES[index]} {TORQUES[index]}"/>'
            f'<geom type="capsule" fromto="{capsule}" size="0.05" mass="{mass}" '
            f'rgba="0.9 0.9 0.92 1" contype="0" conaffinity="0"/>{inner}</body>'
        )
    return inner


def actuators_xml() -> str:
    """Of every joint a spring to a place that moves at the rate commanded, and its damper's share.

    The first seven take the rates (rad/s), their places are the state `act`; the next seven take
    the torques (N m) that the dampers would brake with; the last two are the fingers' places (m).
    """
    joints = range(len(STIFF))
    springs = "".join(
        f'<general name="spring{index + 1}" joint="joint{index + 1}" dyntype="integrator" '
        f'gainprm="{STIFF[index]}" biastype="affine" '
        f'biasprm="0 -{STIFF[index]} -{DAMPED[index]}"/>'
        for index in joints
    )
    forward = "".join(
        f'<motor name="forward{index + 1}" joint="joint{index + 1}"/>' for index in joints
    )
    fingers = "".join(
        f'<position name="{name}" joint="{name}" kp="2000" forcerange="-60 60" ctrlrange="0 0.04"/>'
        for name in ("left", "right")
    )
    return springs + forward + fingers


def scene_xml(objects: str, cameras: str = "") -> str:
    """A whole scene: the arm, a floor, light, and what a task adds."""
    return f"""
<mujoco model="closed loop">
  <compiler angle="radian"/>
  <option timestep="0.002" integrator="implicitfast" cone="elliptic" impratio="10"/>
  <visual>
    <headlight ambient="0.5 0.5 0.5" diffuse="0.4 0.4 0.4" specular="0 0 0"/>
    <quality shadowsize="0" offsamples="0" numslices="8" numstacks="6" numquads="1"/>
  </visual>
  <default>
    <default class="pad">
      <geom type="box" size="0.010 0.006 0.012" mass="0.05" rgba="0.1 0.1 0.1 1"
        friction="1.5 0.05 0.001" condim="4" solref="0.004 1"/>
    </default>
  </default>
  <worldbody>
    <light pos="0.5 0 2.5" dir="0 0 -1" castshadow="false" directional="true"/>
    <geom name="floor" type="plane" size="3 3 0.1" rgba="0.55 0.57 0.6 1" contype="0"
      conaffinity="0"/>
    <camera name="front" pos="1.10 -0.03 0.62" xyaxes="0 1 0 -0.66 0 0.75" fovy="46"/>
    {cameras}
    {arm_xml()}
    {objects}
  </worldbody>
  <actuator>{actuators_xml()}</actuator>
</mujoco>
"""
