"""Replays the sensors and the chunks of recorded episodes, as a controller saw them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vlacut.control.recording.episodes import Episodes
from vlacut.control.signals.ahead import announced
from vlacut.control.signals.motion import SMOOTHED_S, WINDOW_S, MotionMeter, MotionScale
from vlacut.control.signals.risk import RiskSignals
from vlacut.control.situation import STILL, Ahead, Motion
from vlacut.control.ways.chunk import ChunkReader

_FLOOR_QUANTILE = 0.05
_LEAST = 1e-9


def sense_rate(episodes: Episodes) -> float:
    """Samples of the joints per second; 0 where there are none."""
    if len(episodes.sense_ns) < 2:
        return 0.0
    return 1e9 / max(1.0, float(np.median(np.diff(episodes.sense_ns))))


def fit_motion(episodes: Episodes) -> MotionScale:
    """The scale of the scores: see `MotionScale`. Weights are 1 over standard deviations, floors
    the 5 % quantile of a window's standard deviation, v0 the median speed.
    """
    rate = sense_rate(episodes)
    velocities = _velocities(episodes, rate)
    if not rate or not np.isfinite(velocities).any():
        return MotionScale()
    accelerations = _finite_rows(np.diff(velocities, axis=0) * rate)
    lag = max(1, round(SMOOTHED_S * rate))
    torques = _finite_rows((episodes.tau[lag:] - episodes.tau[:-lag]) / lag)
    weights_a, weights_t = _weights(accelerations), _weights(torques)
    window = max(4, round(WINDOW_S * rate))
    return MotionScale(
        weights_a,
        weights_t,
        _floor(accelerations, weights_a, window),
        _floor(torques, weights_t, window),
        max(_LEAST, float(np.median(np.linalg.norm(_finite_rows(velocities), axis=1)))),
    )


def motions(episodes: Episodes, scale: MotionScale) -> list[Motion]:
    """What was sensed between ticks, by tick; nothing is carried from one episode into the next."""
    rate = sense_rate(episodes)
    if not rate:
        return [STILL] * episodes.ticks
    made = []
    has = [bool(np.isfinite(one).any()) for one in (episodes.q, episodes.qd, episodes.tau)]
    for first, end in episodes.bounds():
        meter = MotionMeter(rate, scale)
        start_ns = episodes.tick_ns[first - 1] if first else -(1 << 62)
        rows = _between(episodes, start_ns, episodes.tick_ns[end - 1])
        for tick in range(first, end):
            while rows.size and episodes.sense_ns[rows[0]] <= episodes.tick_ns[tick]:
                row, rows = rows[0], rows[1:]
                q, qd, tau = (
                    one[row] if there else None
                    for one, there in zip((episodes.q, episodes.qd, episodes.tau), has, strict=True)
                )
                meter.sense(q, qd, tau, int(episodes.sense_ns[row]))
            made.append(meter.take())
    return made


def aheads(episodes: Episodes, reader: ChunkReader) -> list[Ahead]:
    """What the chunk in force announced, by tick."""
    places = {number: place for place, number in enumerate(episodes.chunk_number.tolist())}
    made = []
    for number, index in zip(episodes.inference.tolist(), episodes.index.tolist(), strict=True):
        place = places.get(number)
        made.append(Ahead() if place is None else announced(episodes.chunk[place, index:], reader))
    return made


def features(episodes: Episodes, moved: list[Motion], ahead: list[Ahead]) -> np.ndarray:
    """What the learnt risk sees, [N, FEATURES]."""
    signals, rows = RiskSignals(), []
    starts = set(episodes.episode.tolist())
    for tick in range(episodes.ticks):
        if tick in starts:
            signals.reset()
        rows.append(signals.features(moved[tick], ahead[tick]))
    return np.stack(rows)


def held_out(episodes: Episodes, share: float = 0.3) -> np.ndarray:
    """Whether each tick belongs to a held-out episode, [N]. The last episodes are held out; of a
    single episode, its last ticks.
    """
    bounds = episodes.bounds()
    made = np.zeros(episodes.ticks, bool)
    if len(bounds) == 1:
        made[round((1 - share) * episodes.ticks) :] = True
    else:
        for first, end in bounds[len(bounds) - max(1, round(share * len(bounds))) :]:
            made[first:end] = True
    return made


def _velocities(episodes: Episodes, rate: float) -> np.ndarray:
    if np.isfinite(episodes.qd).any() or not rate:
        return episodes.qd
    return np.diff(episodes.q, axis=0) * rate


def _between(episodes: Episodes, start_ns: int, end_ns: int) -> np.ndarray:
    return np.flatnonzero((episodes.sense_ns > start_ns) & (episodes.sense_ns <= end_ns))


def _finite_rows(rows: np.ndarray) -> np.ndarray:
    kept: np.ndarray = rows[np.isfinite(rows).all(axis=1)]
    return kept


def _weights(rows: np.ndarray) -> tuple[float, ...]:
    if not len(rows):
        return ()
    return tuple((1 / np.maximum(rows.std(axis=0), _LEAST)).tolist())


def _floor(rows: np.ndarray, weights: tuple[float, ...], window: int) -> float:
    if len(rows) < 2 * window:
        return 0.0
    norms = np.linalg.norm(rows * weights, axis=1)
    deviations = [one.std() for one in _windows(norms, window)]
    return max(_LEAST, float(np.quantile(deviations, _FLOOR_QUANTILE)))


def _windows(values: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(values) - size + 1, size):
        yield values[start : start + size]
