"""Scripted episodes of an arm: what its joints say, chunk by chunk, and which moments matter.

A pick and place by a spring and a damper after minimum-jerk reaches: slow descent and a push of
torque at contact, then a lift. The chunks are what the script will do next, seen with what it knew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlacut.control.recording.episodes import Episodes

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
        ends: the tick at which the phase of a tick ends, [ticks].
    """

    qd: np.ndarray
    tau: np.ndarray
    critical: np.ndarray
    planned: np.ndarray
    ends: np.ndarray


def script(seed: int) -> Script:
    """One episode."""
    numbers = np.random.default_rng(seed)
    at = np.zeros(7)
    positions, torques, critical, grips, ends = [], [], [], [], []
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
        done = sum(map(len, positions))
        ends.append(np.full(samples, done // round(TICK_S * SENSED)))
    q = np.concatenate(positions)
    qd = np.gradient(q, axis=0) * SENSED + 0.002 * numbers.standard_normal(q.shape)
    tau = np.concatenate(torques) + 0.05 * numbers.standard_normal(q.shape)
    every = round(TICK_S * SENSED)
    planned = np.column_stack((q, np.concatenate(grips)))[::every]
    matters = np.concatenate(critical)
    matters = np.pad(matters, (0, -len(matters) % every)).reshape(-1, every).any(axis=1)
    return Script(qd, tau, matters, planned, np.concatenate(ends)[::every])


def chunks_of(made: Script, length: int) -> np.ndarray:
    """What a policy that knows the phase it is in would say at every tick, [ticks, length, 8]: the
    script to the phase's end, and what it has reached by then.
    """
    ticks = len(made.planned)
    index = np.arange(ticks)[:, None] + np.arange(length)
    known = np.minimum(index, np.minimum(made.ends, ticks - 1)[:, None])
    return made.planned[known]


def episodes_of(seeds: Sequence[int], length: int = 16) -> tuple[Episodes, np.ndarray]:
    """Episodes in which every chunk was played to its end, and the chunk of every tick."""
    scripts = [script(seed) for seed in seeds]
    chunks = np.concatenate([chunks_of(one, length) for one in scripts])
    counts = [len(one.planned) for one in scripts]
    starts = np.cumsum([0, *counts[:-1]])
    ticks = np.concatenate([np.arange(count) for count in counts])
    first = np.repeat(starts, counts)
    index = ticks % length
    asked = first + ticks - index
    tick_ns = np.arange(len(ticks)) * round(TICK_S * 1e9) + 10**9
    every = round(TICK_S * SENSED)
    qd = [np.resize(one.qd, (count * every, 7)) for one, count in zip(scripts, counts, strict=True)]
    tau = [
        np.resize(one.tau, (count * every, 7)) for one, count in zip(scripts, counts, strict=True)
    ]
    sense_ns = np.repeat(tick_ns, every) + np.tile(np.arange(1 - every, 1), len(ticks)) * 2_000_000
    numbers = np.unique(asked)
    made = Episodes(
        period_s=TICK_S,
        chunk_period_s=TICK_S,
        declared="action,switched=7",
        variants=np.array(["edge", "cut"]),
        routes=np.array(["edge", "cut"]),
        episode=starts,
        tick_ns=tick_ns,
        captured_ns=tick_ns,
        command=chunks[asked, index],
        command_captured_ns=tick_ns[asked],
        inference=asked,
        index=index,
        starved=np.zeros(len(ticks), bool),
        chunk=chunks[numbers],
        chunk_number=numbers,
        chunk_tick=numbers,
        chunk_captured_ns=tick_ns[numbers],
        chunk_arrived_ns=tick_ns[numbers] + 2 * round(TICK_S * 1e9),
        chunk_variant=np.zeros(len(numbers), int),
        sense_ns=sense_ns,
        q=np.full((len(sense_ns), 7), np.nan),
        qd=np.concatenate(qd),
        tau=np.concatenate(tau),
        observation={"image": np.zeros((len(ticks), 4), np.float32)},
    )
    return made, chunks
