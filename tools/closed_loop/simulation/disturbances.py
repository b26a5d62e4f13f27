"""Disturbances of what is seen: noise, something in the way, light. Joints feel nothing of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Disturb = Callable[[np.ndarray, bool, int], np.ndarray]  # a picture, whether the wrist's, the tick
NOISE, OCCLUSION, LIGHT = DISTURBANCES = ("noise", "occlusion", "light")
_SIGMA = 30.0  # of 255
_SIDE, _LASTS = 18, 12  # pixels; ticks that something is in the way, in every second such time
_DARK, _BRIGHT = 0.55, 1.45


def make_disturbance(name: str, seed: int) -> Disturb:
    """The disturbance of a name for an episode; the same seed gives the same pictures."""
    kinds = {NOISE: _noise, OCCLUSION: _occluded, LIGHT: _lit}
    kind = kinds[name]

    def disturb(picture: np.ndarray, wrist: bool, tick: int) -> np.ndarray:
        return kind(picture, seed, wrist, tick)

    return disturb


def _noise(picture: np.ndarray, seed: int, wrist: bool, tick: int) -> np.ndarray:
    numbers = np.random.default_rng((seed, tick, int(wrist), 2))
    noisy = picture + numbers.normal(0, _SIGMA, picture.shape)
    return np.asarray(np.clip(noisy, 0, 255), np.uint8)


def _occluded(picture: np.ndarray, seed: int, wrist: bool, tick: int) -> np.ndarray:
    time = tick // _LASTS
    if time % 2 == 0:
        return picture
    numbers = np.random.default_rng((seed, time, int(wrist), 3))
    row, column = numbers.integers(0, picture.shape[0] - _SIDE, 2)
    hidden = picture.copy()
    hidden[row : row + _SIDE, column : column + _SIDE] = numbers.integers(0, 256, 3)
    return hidden


def _lit(picture: np.ndarray, seed: int, wrist: bool, tick: int) -> np.ndarray:
    """Brighter and darker in waves of 2 to 6 s, with a tint."""
    numbers = np.random.default_rng((seed, 4))
    period, phase = numbers.uniform(40, 120), numbers.uniform(0, 2 * np.pi)
    tint = numbers.uniform(0.85, 1.15, 3)
    wave = (1 + np.sin(2 * np.pi * tick / period + phase)) / 2
    lit = picture * tint * (_DARK + (_BRIGHT - _DARK) * wave)
    return np.asarray(np.clip(lit, 0, 255), np.uint8)
