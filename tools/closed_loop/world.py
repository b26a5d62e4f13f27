"""The world: physics at 500 Hz, commands at 20 Hz, joints and torques sensed at the physics' rate.

A command is the pose of the tool that the arm is to reach, x, y, z (m) and yaw (rad) with the tool
pointing down, and the grip (0 open, 1 closed). It moves at most `STEP_M` and `STEP_RAD` from the
last one, as a real arm's interface would limit it. Joints follow by damped least squares and a PD
law on top of the forces of gravity and motion, so torques are those of a real controller: contact
shows in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, sin

import mujoco
import numpy as np

from .arm import HOME, OPEN, TORQUES

RATE = 20  # commands per second
SUBSTEPS = 25  # of the physics, 2 ms each, per command
STEP_M, STEP_RAD = 0.018, 0.12  # a command is at most so far from the last
COMMAND = 5
_JOINTS = 7
_STIFF = np.array([600.0, 600.0, 600.0, 600.0, 250.0, 150.0, 50.0])
_DAMPED = np.array([50.0, 50.0, 50.0, 50.0, 30.0, 25.0, 15.0])


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
    begun: np.ndarray | None


class World:
    """A scene that runs.

    Args:
        xml: the scene, see `arm.scene_xml`.
    """

    def __init__(self, xml: str) -> None:
        self.model = mujoco.MjModel.from_xml_string(xml)
        self.data = mujoco.MjData(self.model)
        self._tool = self.model.site("tool").id
        self._jacobian = np.zeros((6, self.model.nv))
        self._renderers: dict[int, mujoco.Renderer] = {}
        self._option = mujoco.MjvOption()
        self._begun: np.ndarray | None = None
        self._spare = mujoco.MjData(self.model)
        self.reset()

    def reset(self) -> None:
        """The arm at home, at rest, the gripper open."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:_JOINTS] = HOME
        self.data.qpos[_JOINTS : _JOINTS + 2] = OPEN
        self.data.ctrl[_JOINTS : _JOINTS + 2] = OPEN
        mujoco.mj_forward(self.model, self.data)
        self.hold()

    def hold(self) -> None:
        """Take where the arm is for where it is to be."""
        self._target = np.array(self.data.qpos[:_JOINTS])
        self._begun = None
        self.command = np.array([*self.tool, self.yaw, 0.0])

    def save(self) -> Saved:
        """All that the next steps hang on."""
        spec = mujoco.mjtState.mjSTATE_INTEGRATION
        state = np.empty(mujoco.mj_stateSize(self.model, spec))
        mujoco.mj_getState(self.model, self.data, state, spec)
        begun = None if self._begun is None else self._begun.copy()
        return Saved(state, self.command.copy(), self._target.copy(), begun)

    def restore(self, saved: Saved) -> None:
        """As it was when that was saved."""
        mujoco.mj_setState(self.model, self.data, saved.state, mujoco.mjtState.mjSTATE_INTEGRATION)
        mujoco.mj_forward(self.model, self.data)
        self.command, self._target = saved.command.copy(), saved.target.copy()
        self._begun = None if saved.begun is None else saved.begun.copy()

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

    def step(self, command: np.ndarray) -> Sensed:
        """A control step, 50 ms, towards a command."""
        move = np.clip(command[:3] - self.command[:3], -STEP_M, STEP_M)
        turn = np.clip(_wrapped(command[3] - self.command[3]), -STEP_RAD, STEP_RAD)
        self.command = np.array([*(self.command[:3] + move), self.command[3] + turn, command[4]])
        self._aim()
        self.data.ctrl[_JOINTS : _JOINTS + 2] = OPEN * (1 - np.clip(command[4], 0, 1))
        rows = np.zeros((3, SUBSTEPS, _JOINTS))
        began = self.data.qpos[:_JOINTS].copy() if self._begun is None else self._begun
        for at in range(SUBSTEPS):
            wanted = began + (self._target - began) * (at + 1) / SUBSTEPS
            rate = (self._target - began) / (SUBSTEPS * self.model.opt.timestep)
            tau = self._torque(wanted, rate)
            self.data.ctrl[:_JOINTS] = tau
            mujoco.mj_step(self.model, self.data)
            rows[:, at] = self.data.qpos[:_JOINTS], self.data.qvel[:_JOINTS], tau
        self._begun = self._target.copy()
        mujoco.mj_forward(self.model, self.data)  # what is seen is of now, not of 2 ms ago
        return Sensed(*rows)

    def _torque(self, wanted: np.ndarray, rate: np.ndarray) -> np.ndarray:
        q, qd = self.data.qpos[:_JOINTS], self.data.qvel[:_JOINTS]
        tau = _STIFF * (wanted - q) + _DAMPED * (rate - qd) + self.data.qfrc_bias[:_JOINTS]
        return np.asarray(np.clip(tau, -np.array(TORQUES), np.array(TORQUES)))

    def _aim(self) -> None:
        """The joints at which the tool is where the command says, by damped least squares."""
        scratch = self._spare
        scratch.qpos[:] = self.data.qpos
        scratch.qpos[:_JOINTS] = self._target
        yaw = self.command[3]
        wanted = np.array([[cos(yaw), sin(yaw), 0], [sin(yaw), -cos(yaw), 0], [0, 0, -1.0]])
        for _ in range(4):
            mujoco.mj_kinematics(self.model, scratch)
            mujoco.mj_comPos(self.model, scratch)
            turn = scratch.site_xmat[self._tool].reshape(3, 3)
            off = 0.5 * sum(np.cross(turn[:, axis], wanted[:, axis]) for axis in range(3))
            error = np.concatenate([self.command[:3] - scratch.site_xpos[self._tool], off])
            mujoco.mj_jacSite(
                self.model, scratch, self._jacobian[:3], self._jacobian[3:], self._tool
            )
            jacobian = self._jacobian[:, :_JOINTS]
            square = jacobian @ jacobian.T + 1e-4 * np.eye(6)
            step = jacobian.T @ np.linalg.solve(square, error)
            # What the seventh joint leaves free keeps the elbow where it began.
            home = np.array(HOME) - scratch.qpos[:_JOINTS]
            step += 0.02 * (home - jacobian.T @ np.linalg.solve(square, jacobian @ home))
            scratch.qpos[:_JOINTS] += step
        low, high = self.model.jnt_range[:_JOINTS].T
        self._target = np.clip(scratch.qpos[:_JOINTS], low, high)

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
