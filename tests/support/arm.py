"""Scripted episodes of an arm: what its joints say, chunk by chunk, and which moments matter.

A pick and place by a spring and a damper after minimum-jerk reaches: slow descent and a push of
torque at contact, then a lift. The chunks are what the script will do next, seen with what it knew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SENSED = 500
TICK_S = 0.05
_PHASES = (("reach", 1.6), ("descend", 0.5), ("grasp", 0.4), ("carry", 1.5), ("place", 0.5))
CRITICAL = ("descend", "grasp", "place")


@dataclass(frozen=True)
class Script:
    """An episode at the sensors' rate, and at ticks.

    Attributes:
        qd, tau: [samples, 7].
        critical: whether contact is made in a tick, [ticks].
        planned: commands that the script has for every tick, [ticks, 8]; the last is the gripper.
    """

    qd: np.ndarray
    tau: np.ndarray
    critical: np.ndarray
    planned: np.ndarray


def script(seed: int) -> Script:
    """One episode."""
    numbers = np.random.default_rng(seed)
    at = np.zeros(7)
    positions, torques, critical, grips = [], [], [], []
    grip = 0.0
    for name, seconds in _PHASES:
        samples = round(seconds * SENSED * numbers.uniform(0.8, 1.2))
        far = {"reach": 0.8, "carry": 0.8}.get(name, 0.08)
        goal = at + far * numbers.standard_normal(7)
        share = np.linspace(0, 1, samples)[:, None]
        eased = share**3 * (10 - 15 * share + 6 * share**2)  # minimum jerk (Flash and Hogan 1985)
        positions.append(at + eased * (goal - at))
        push, matters = np.zeros((samples, 7)), np.zeros(samples, bool)
        if name in CRITICAL:
            contact = numbers.integers(samples // 4, samples // 2)
            decay = np.exp(-np.arange(samples - contact) / 20.0)[:, None]
            matters[contact] = True
            push[contact:] += 6 * numbers.standard_normal(7) * decay
        torques.append(2 * np.gradient(positions[-1], axis=0) * SENSED + push)
        grip = {"grasp": 1.0, "place": 0.0}.get(name, grip)
        critical.append(matters)
        grips.append(np.full(samples, grip))
        at = goal
    q = np.concatenate(positions)
    qd = np.gradient(q, axis=0) * SENSED + 0.002 * numbers.standard_normal(q.shape)
    tau = np.concatenate(torques) + 0.05 * numbers.standard_normal(q.shape)
    every = round(TICK_S * SENSED)
    planned = np.column_stack((q, np.concatenate(grips)))[::every]
    matters = np.concatenate(critical)
    matters = np.pad(matters, (0, -len(matters) % every)).reshape(-1, every).any(axis=1)
    return Script(qd, tau, matters, planned)
