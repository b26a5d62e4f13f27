"""Predictors of the bandwidth, one step ahead, on recordings that none of them was fitted to.

    python tools/compare_predictors.py TRACES [--interval 0.1] [--share 0.7] [--seed 0]

TRACES is a folder of recorded bandwidths; those with steps longer than the interval are left out.
The LSTM is trained on a share of the recordings, whole ones, chosen by their names; all predictors
are judged on the others. `lstm, uncorrected` is the network's own quantile, without the conformal
correction. A step is an update and a forecast with one quantile.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from vlacut.cli.show.output import table
from vlacut.cli.show.progress import progress_bar
from vlacut.hardware import read_recordings
from vlacut.runtime.network.conformal import LEVELS
from vlacut.runtime.network.lstm import Lstm, read_lstm, write_weights
from vlacut.runtime.network.predictors import LSTM, PREDICTORS, Predictor, make_predictor
from vlacut.runtime.network.smoothing import LEAST
from vlacut.simulation.scores import Score, samples_of, score, split_recordings
from vlacut.simulation.training import train


class Uncorrected:
    """The network as it is."""

    def __init__(self, network: Lstm) -> None:
        self._network = network

    def update(self, bytes_per_s: float) -> None:
        """Take a sample."""
        self._network.update(max(bytes_per_s, LEAST))

    def predict(self, quantile: float | None = None) -> float:
        """The point forecast, or a quantile."""
        if quantile is None:
            return self._network.point
        return float(np.exp(np.interp(quantile, LEVELS, self._network.centre)))


def main() -> None:
    """Train, judge, print a row per predictor."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("traces", type=Path)
    parser.add_argument("--interval", type=float, default=0.1, help="seconds")
    parser.add_argument("--share", type=float, default=0.7, help="of the recordings to train on")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with progress_bar() as progress, tempfile.TemporaryDirectory() as folder:
        progress("read", 0, 1)
        recordings, coarse = samples_of(read_recordings(asked.traces), asked.interval)
        fitted, kept = split_recordings(list(recordings), asked.share)
        file = Path(folder) / "lstm.npz"
        made = train(
            {name: recordings[name] for name in fitted},
            asked.interval,
            seed=asked.seed,
            progress=progress,
        )
        write_weights(file, made.weights)
        makers: dict[str, Callable[[], Predictor]] = {
            **PREDICTORS,
            "lstm, uncorrected": lambda: Uncorrected(read_lstm(file)),
            LSTM: partial(make_predictor, LSTM, file),
        }
        pieces = [piece for name in kept for piece in recordings[name]]
        rows = []
        for done, (name, make) in enumerate(makers.items()):
            progress("judge", done, len(makers))
            rows.append(row(name, score(make, pieces), step_us(make, pieces)))
    title = (
        f"{sum(map(len, pieces))} samples of {len(kept)} recordings; {len(fitted)} others to train "
        f"on, {coarse} files too coarse"
    )
    errors = ("MAE", "RMSE", "over 30 %")
    columns = ("predictor", *errors, "reach its 10 % quantile", "that over 30 %", "a step")
    Console(width=110, highlight=False).print(table(title, columns, rows))


def row(name: str, found: Score, spent_us: float) -> tuple[str, ...]:
    """Errors in Mbit/s, as the traces are."""
    errors = (f"{8e-6 * error:.3f}" for error in (found.mae, found.rmse))
    shares = (found.over, found.covered, found.quantile_over)
    return name, *errors, *(f"{100 * share:.1f} %" for share in shares), f"{spent_us:.0f} us"


def step_us(make: Callable[[], Predictor], pieces: Sequence[np.ndarray]) -> float:
    """Microseconds of a step, the least of twenty groups of a hundred."""
    predictor = make()
    samples = [float(sample) for piece in pieces for sample in piece][:2000]
    best = float("inf")
    for start in range(0, len(samples) - 99, 100):
        began = time.perf_counter()
        for sample in samples[start : start + 100]:
            predictor.update(sample)
            predictor.predict(0.1)
        best = min(best, (time.perf_counter() - began) * 1e4)
    return best


if __name__ == "__main__":
    main()
