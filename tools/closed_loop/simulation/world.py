"""The world: physics at 500 Hz, commands at 20 Hz, joints and torques sensed at the physics' rate.

A command is the pose of the tool that the arm is to reach, x, y, z (m) and yaw (rad) with the tool
pointing down, and the grip (0 open, 1 closed). It moves at most `STEP_M` and `STEP_RAD` from the
last one, as a real arm's interface would limit it. Joints follow (`kinematics.py`) by a PD law on
top of the forces of gravity, so torques are those of a real controller: contact shows in
them.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from .arm import DAMPED, HOME, OPEN, RATE
from .kinematics import aim

SUBSTEPS = 25  # of the physics, 2 ms each, per command
STEP_M, STEP_RAD = 0.018, 0.12  # a command is at most so far from the last
COMMAND = 5
_JOINTS = 7
_DAMPED = np.array(DAMPED)
_FINGERS = slice(2 * _JOINTS, 2 * _JOINTS + 2)  # of the controls


@dataclass(frozen=True)
class Sensed:
    """What the arm's sensors said since the last command, a row per 2 ms.

    Attributes:
        q, qd, tau: of the seven joints: rad, rad/s, N m; each `[25, 7]`.
    """

    q: np.ndarray
    qd: np.ndarray
    tau: np.ndarray


@dataclass(frozen=True)
class Saved:
    """A state of the world that it can go back to."""

    state: np.ndarray
    command: np.ndarray
    target: np.ndarray


class World:
    """A scene that runs.

    Args:
        xml: the scene, see `arm.scene_xml`.
    """

    def __init__(self, xml: str) -> None:
        self.model = mujoco.MjModel.from_xml_string(xml)
        self.data = mujoco.MjData(self.model)
        self._tool = self.model.site("tool").id
        self._renderers: dict[int, mujoco.Renderer] = {}
        self._option = mujoco.MjvOption()
        self._spare = mujoco.MjData(self.model)
        self.reset()

    def reset(self) -> None:
        """The arm at home, at rest, the gripper open."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:_JOINTS] = HOME
        self.data.qpos[_JOINTS : _JOINTS + 2] = OPEN
        self.data.ctrl[_FINGERS] = OPEN
        mujoco.mj_forward(self.model, self.data)
        self.hold()

    def hold(self) -> None:
        """Take where the arm is for where it is to be."""
        self._target = np.array(self.data.qpos[:_JOINTS])
        self.command = np.array([*self.tool, self.yaw, 0.0])

    def pose(self, near: np.ndarray, opening: float) -> None:
        """Put the arm where the command says, at rest and without physics; fingers as far open."""
        self._target = near
        for _ in range(4):
            self._target = self._aim()
        self.data.qpos[:_JOINTS] = self._target
        self.data.qpos[_JOINTS : _JOINTS + 2] = opening
        self.data.qvel[:] = 0
        self.show()

    def show(self) -> None:
        """Let everything be seen where the state says that it is."""
        mujoco.mj_forward(self.model, self.data)

    def save(self) -> Saved:
        """All that the next steps hang on."""
        spec = mujoco.mjtState.mjSTATE_INTEGRATION
        state = np.empty(mujoco.mj_stateSize(self.model, spec))
        mujoco.mj_getState(self.model, self.data, state, spec)
        return Saved(state, self.command.copy(), self._target.copy())

    def restore(self, saved: Saved) -> None:
        """As it was when that was saved."""
        mujoco.mj_setState(self.model, self.data, saved.state, mujoco.mjtState.mjSTATE_INTEGRATION)
        mujoco.mj_forward(self.model, self.data)
        self.command, self._target = saved.command.copy(), saved.target.copy()

    @property
    def tool(self) -> np.ndarray:
        """Where the tool is, x, y, z in m."""
        return np.array(self.data.site_xpos[self._tool])

    @property
    def yaw(self) -> float:
        """The turn of the tool about the vertical, rad."""
        turn = self.data.site_xmat[self._tool].reshape(3, 3)
        return float(np.arctan2(turn[1, 0], turn[0, 0]))

    @property
    def opening(self) -> float:
        """How far the gripper is open, 0 to 1."""
        return float(self.data.qpos[_JOINTS] + self.data.qpos[_JOINTS + 1]) / (2 * OPEN)

    @property
    def proprioception(self) -> np.ndarray:
        """Tool x, y, z, yaw, opening, and the command in force: `[10]`, float32."""
        return np.array([*self.tool, self.yaw, self.opening, *self.command], np.float32)

    @property
    def torques(self) -> np.ndarray:
        """What the joints give beyond what gravity takes, N m, `[7]`, float32; at rest nothing."""
        if self.data.time == 0:
            return np.zeros(_JOINTS, np.float32)  # its springs are not set yet
        beyond = self.data.qfrc_actuator - self.data.qfrc_gravcomp
        return np.asarray(beyond[:_JOINTS], np.float32)

    def step(self, command: np.ndarray) -> Sensed:
        """A control step, 50 ms, towards a command."""
        self._begin(command)
        rows = np.empty((3, SUBSTEPS, _JOINTS))
        data = self.data
        for at in range(SUBSTEPS):
            mujoco.mj_step(self.model, data)
            rows[:, at] = data.qpos[:_JOINTS], data.qvel[:_JOINTS], data.qfrc_actuator[:_JOINTS]
        self._end()
        return Sensed(*rows)

    def skip(self, command: np.ndarray) -> None:
        """As `step`, to the bit, for one who does not ask what was sensed."""
        self._begin(command)
        mujoco.mj_step(self.model, self.data, SUBSTEPS)
        self._end()

    def _begin(self, command: np.ndarray) -> None:
        move = np.clip(command[:3] - self.command[:3], -STEP_M, STEP_M)
        turn = np.clip(_wrapped(command[3] - self.command[3]), -STEP_RAD, STEP_RAD)
        grip = float(command[4] > 0.5)
        self.command = np.array([*(self.command[:3] + move), self.command[3] + turn, grip])
        began = self._target
        self._target = self._aim()
        rate = (self._target - began) * RATE
        self.data.act[:_JOINTS] = began
        self.data.ctrl[:_JOINTS] = rate
        self.data.ctrl[_JOINTS : 2 * _JOINTS] = _DAMPED * rate
        self.data.ctrl[_FINGERS] = OPEN * (1 - grip)

    def _end(self) -> None:
        mujoco.mj_forward(self.model, self.data)  # what is seen is of now, not of 2 ms ago

    def _aim(self) -> np.ndarray:
        self._spare.qpos[:] = self.data.qpos
        self._spare.qpos[:_JOINTS] = self._target
        return aim(self.model, self._spare, self._tool, self.command)

    def picture(self, camera: str, size: int = 64, data: mujoco.MjData | None = None) -> np.ndarray:
        """What a camera sees, `[size, size, 3]` uint8; of another state, if given."""
        if size not in self._renderers:
            renderer = mujoco.Renderer(self.model, size, size)
            for flag in ("mjRND_SHADOW", "mjRND_REFLECTION", "mjRND_SKYBOX", "mjRND_FOG"):
                renderer.scene.flags[getattr(mujoco.mjtRndFlag, flag)] = False
            self._renderers[size] = renderer
        renderer = self._renderers[size]
        renderer.update_scene(data or self.data, camera, self._option)
        return np.asarray(renderer.render()).copy()

    def close(self) -> None:
        """Give the renderers back; calling it again does nothing."""
        while self._renderers:
            self._renderers.popitem()[1].close()


def _wrapped(angle: float) -> float:
    return float((angle + np.pi) % (2 * np.pi) - np.pi)
