"""From a command to the arm's joints."""

from __future__ import annotations

from math import cos, sin

import mujoco
import numpy as np

from .arm import HOME

_JOINTS = 7
_HOME, _DAMP = np.array(HOME), 1e-4 * np.eye(6)
_STEPS = 3
_HOMEWARD = 0.02  # of the way home, a step


def aim(
    model: mujoco.MjModel, scratch: mujoco.MjData, tool: int, command: np.ndarray
) -> np.ndarray:
    """The joints at which the tool is where a command says, `[7]` in rad.

    By damped least squares (Wampler, IEEE Transactions on Systems, Man and Cybernetics 16, 1986).
    What the seventh joint leaves free keeps the elbow where it began.

    Args:
        model: of the world.
        scratch: a state that may be changed, at joints to begin from.
        tool: number of the tool's site.
        command: x, y, z in m, and yaw in rad; the tool points down.
    """
    c, s = cos(command[3]), sin(command[3])
    wanted = np.array([[c, s, 0], [s, -c, 0], [0, 0, -1.0]])
    full = np.zeros((6, model.nv))
    for _ in range(_STEPS):
        mujoco.mj_kinematics(model, scratch)
        mujoco.mj_comPos(model, scratch)
        off = wanted @ scratch.site_xmat[tool].reshape(3, 3).T
        away = np.empty((6, 2))
        away[:3, 0] = command[:3] - scratch.site_xpos[tool]
        away[3:, 0] = off[2, 1] - off[1, 2], off[0, 2] - off[2, 0], off[1, 0] - off[0, 1]
        away[3:, 0] /= 2
        mujoco.mj_jacSite(model, scratch, full[:3], full[3:], tool)
        jacobian = full[:, :_JOINTS]
        home = _HOME - scratch.qpos[:_JOINTS]
        away[:, 1] = jacobian @ home
        step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + _DAMP, away)
        scratch.qpos[:_JOINTS] += step[:, 0] + _HOMEWARD * (home - step[:, 1])
    low, high = model.jnt_range[:_JOINTS].T
    return np.asarray(np.clip(scratch.qpos[:_JOINTS], low, high))
