"""Motion: RAPID's scores from the joints' velocities and torques, sample by sample.

RAPID (arXiv 2603.07949) finds moments that matter from the joints alone. For each sample, some
hundreds per second,

    a = |W_a (qd - qd_prev)| rate      the acceleration
    d = |W_t (tau - tau_prev)|         the torque's change, the torque being a mean over 10 ms
    z = max(0, (x - mean) / (std + floor))     of either, against the last 200 ms
    w = v / (v + v0),  v = |qd|        fast: the acceleration counts; slow: the torque
    S = w z_a + (1 - w) z_t            the action importance score

A tick has the largest S since the tick before. A sample costs the same for any window and needs no
numpy: sums slide, and are summed anew once per window, so that rounding does not add up. The paper
gives neither W nor floors nor thresholds. `MotionScale` has them from episodes; without episodes,
the floors and v0 follow slow means of the quantities they stand for.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlacut.control.situation import STILL, Motion
from vlacut.errors import InputError

WINDOW_S = 0.2
SMOOTHED_S = 0.01
RATE = 500.0
_GAP = 5  # periods without a sample, after which the next one follows none
_FLOOR_SHARE = 0.2  # of the slow mean, where no floor was fitted
_SLOW_S = 5.0

Joints = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class MotionScale:
    """What scores are scaled by; fitted by `vlacut calibrate-actions`.

    Attributes:
        acceleration, torque: of each joint, 1 over the standard deviation of its acceleration, in
            s2/rad, and of its torque's change, in 1/Nm; 1 for all if empty.
        acceleration_floor, torque_floor: added to standard deviations; slow means if 0.
        speed: v0, in rad/s; a slow mean if 0.
    """

    acceleration: tuple[float, ...] = ()
    torque: tuple[float, ...] = ()
    acceleration_floor: float = 0.0
    torque_floor: float = 0.0
    speed: float = 0.0


UNFITTED = MotionScale()


class _Window:
    """Mean and standard deviation of the last samples."""

    def __init__(self, size: int, floor: float, slow: int) -> None:
        self._ring = [0.0] * size
        self._at = self._count = 0
        self._sum = self._squares = 0.0
        self._floor, self._share, self._slow = floor, 1 / slow, 0.0

    def score(self, value: float) -> float:
        """How far above the window's mean the value is; then it is in the window."""
        ring, count = self._ring, self._count
        score = 0.0
        if 2 * count >= len(ring):
            mean = self._sum / count
            deviation = math.sqrt(max(0.0, self._squares / count - mean * mean))
            self._slow += self._share * (deviation - self._slow)
            floor = self._floor or _FLOOR_SHARE * self._slow
            if value > mean and deviation + floor > 0:
                score = (value - mean) / (deviation + floor)
        old = ring[self._at]
        ring[self._at] = value
        self._sum += value - old
        self._squares += value * value - old * old
        self._at += 1
        if count < len(ring):
            self._count += 1
        if self._at == len(ring):
            self._at = 0
            self._sum = math.fsum(ring)
            self._squares = math.fsum(one * one for one in ring)
        return score


class MotionMeter:
    """Scores samples of the joints' sensors. Any thread may sense, any may read.

    Args:
        rate: samples per second.
        scale: of the scores.

    Raises InputError for a rate that is not from 1 to 100,000.
    """

    def __init__(self, rate: float = RATE, scale: MotionScale = UNFITTED) -> None:
        if not 1 < rate < 1e5:
            raise InputError(f"{rate:g} samples of the joints per second: must be within 1 and 1e5")
        self._rate, self._period_ns = rate, 1e9 / rate
        self._scale = scale
        self._lock = threading.Lock()
        self._last_ns = 0
        self.dropped = 0
        self.reset()

    def reset(self) -> None:
        """Forget all samples."""
        size, slow = max(4, round(WINDOW_S * self._rate)), round(_SLOW_S * self._rate)
        self._accelerations = _Window(size, self._scale.acceleration_floor, slow)
        self._torques = _Window(size, self._scale.torque_floor, slow)
        self._slow, self._slow_share = 0.0, 1 / slow
        self._q: list[float] = []
        self._qd: list[float] = []
        self._smooth: list[list[float]] = []
        self._smooth_at = 0
        self._tick = STILL

    def sense(
        self, q: Joints | None, qd: Joints | None, tau: Joints | None, at_ns: int
    ) -> Motion | None:
        """Take a sample; its own scores, or None if it told nothing.

        Args:
            q: positions in rad; needed where there are no velocities.
            qd: velocities in rad/s, or None.
            tau: torques in Nm, or None.
            at_ns: when it was taken.

        A sample that is not finite, or comes before the last one, is dropped and counted. One that
        comes after a gap follows no other.
        """
        with self._lock:
            return self._sense(q, qd, tau, at_ns)

    def take(self) -> Motion:
        """The motion since the last call."""
        with self._lock:
            taken, self._tick = self._tick, STILL
        return taken

    def _sense(
        self, q: Joints | None, qd: Joints | None, tau: Joints | None, at_ns: int
    ) -> Motion | None:
        spent = (at_ns - self._last_ns) / self._period_ns
        if spent <= 0:
            self.dropped += 1
            return None
        if spent > _GAP:
            self._q, self._qd, self._smooth = [], [], []
        self._last_ns = at_ns
        rate = self._rate if 0.5 < spent < 1.5 else self._rate / spent
        if qd is not None:
            velocities = _listed(qd)
        else:
            velocities = self._velocities(_listed(q) if q is not None else [], rate)
        torques = _listed(tau) if tau is not None else []
        if not velocities or not all(map(math.isfinite, velocities)):
            self.dropped += 1
            return None
        if not all(map(math.isfinite, torques)):
            self.dropped += 1
            return None
        before, self._qd = self._qd, velocities
        changed = self._torque_change(torques)
        if len(before) != len(velocities):
            return None
        acceleration = _distance(velocities, before, self._scale.acceleration) * rate
        return self._score(acceleration, changed, math.hypot(*velocities))

    def _score(self, acceleration: float, changed: float | None, speed: float) -> Motion:
        z_a = self._accelerations.score(acceleration)
        z_t = self._torques.score(changed) if changed is not None else 0.0
        self._slow += self._slow_share * (speed - self._slow)
        typical = self._scale.speed or self._slow
        weight = speed / (speed + typical) if speed + typical > 0 else 1.0
        if changed is None:  # no torques: the acceleration has all the weight
            weight, changed = 1.0, 0.0
        importance = weight * z_a + (1 - weight) * z_t
        tick = self._tick
        self._tick = Motion(
            max(tick.importance, importance),
            max(tick.acceleration, z_a),
            max(tick.torque, z_t),
            weight,
            speed,
            max(tick.raw_acceleration, acceleration),
            max(tick.raw_torque, changed),
            tick.samples + 1,
        )
        return Motion(importance, z_a, z_t, weight, speed, acceleration, changed, 1)

    def _velocities(self, positions: list[float], rate: float) -> list[float]:
        before, self._q = self._q, positions
        if len(before) != len(positions):
            return []
        return [(new - old) * rate for new, old in zip(positions, before, strict=True)]

    def _torque_change(self, torques: list[float]) -> float | None:
        """Of the mean over 10 ms: the newest less that of 10 ms ago, over how many there are."""
        if not torques:
            return None
        ring, size = self._smooth, max(1, round(SMOOTHED_S * self._rate))
        if ring and len(ring[0]) != len(torques):
            ring.clear()
        if len(ring) < size:
            ring.append(torques)
            self._smooth_at = 0
            return None if len(ring) < 2 else 0.0
        old, ring[self._smooth_at] = ring[self._smooth_at], torques
        self._smooth_at = (self._smooth_at + 1) % size
        return _distance(torques, old, self._scale.torque) / size


def _listed(values: Joints) -> list[float]:
    if isinstance(values, np.ndarray):
        made: list[float] = values.tolist()
        return made
    return [float(one) for one in values]


def _distance(new: list[float], old: list[float], weights: tuple[float, ...]) -> float:
    if len(weights) != len(new):
        return math.dist(new, old)
    squares = 0.0
    for one, other, weight in zip(new, old, weights, strict=True):
        moved = weight * (one - other)
        squares += moved * moved
    return math.sqrt(squares)
