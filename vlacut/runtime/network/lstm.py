"""The LSTM predictor's file, and one step of it in numpy: no torch on the robot.

The network corrects an exponentially weighted mean, the *base*. It sees the logarithms of the
sample over the base and of the base over a slow mean, so that it knows no unit and no link's level.
It is one LSTM cell (Hochreiter and Schmidhuber 1997; gates in the order of torch: input, forget,
cell, output) and a linear layer. The layer gives logarithms for the next sample over the base: of
its point forecast, and of its quantiles at `LEVELS`.

The file is numpy's .npz without pickles:

    format         1
    interval_s     seconds between the samples it was trained on
    input          4H x 2      of the cell
    state          4H x H
    bias           4H          both of torch's, added
    output         (1 + L) x H
    output_bias    1 + L
    levels         L           `LEVELS`
    shift          L           where the conformal corrections begin, see
    `vlacut.runtime.network.conformal`
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from vlacut.bundle.staging import write_file
from vlacut.errors import BundleError, InputError
from vlacut.runtime.network.conformal import LEVELS
from vlacut.runtime.network.smoothing import Ewma
from vlacut.tensor.npz import UNREADABLE, npz_bytes, read_npz, reason

FORMAT = 1
_SLOW_SHARE = 0.05  # of the newest sample in the slow mean
_MOST_LOG = 8.0  # an outage among samples of 3 MB/s
_LEAST_SCALE = 0.01


@dataclass(frozen=True)
class LstmWeights:
    """What the file holds; see the module's docstring."""

    interval_s: float
    input: np.ndarray
    state: np.ndarray
    bias: np.ndarray
    output: np.ndarray
    output_bias: np.ndarray
    shift: np.ndarray


class Features:
    """What the network sees of a series, sample by sample."""

    def __init__(self) -> None:
        self._fast = Ewma()
        self._slow = Ewma(_SLOW_SHARE)

    def step(self, sample: float) -> tuple[float, float, float]:
        """Both inputs, and the base that its outputs are added to; the sample at least `LEAST`."""
        log = math.log(sample)
        self._fast.update(sample)
        self._slow.update(log)
        base = math.log(self._fast.point)
        return _bounded(log - base), _bounded(base - self._slow.point), base


def _bounded(log: float) -> float:
    return min(max(log, -_MOST_LOG), _MOST_LOG)


class Lstm:
    """The outlook (see `vlacut.runtime.network.conformal.Outlook`) of a trained network."""

    def __init__(self, weights: LstmWeights) -> None:
        self.first = weights.shift
        self._gates = np.hstack((weights.input, weights.state))
        self._gates[_cell_rows(weights.state)] *= 2  # tanh(x) = 2 sigmoid(2 x) - 1: one exp for all
        self._bias = weights.bias.copy()
        self._bias[_cell_rows(weights.state)] *= 2
        self._output, self._output_bias = weights.output, weights.output_bias
        self._size = weights.state.shape[1]
        self._seen = np.zeros(2 + self._size, np.float32)  # inputs, then the hidden state
        self._cell = np.zeros(self._size, np.float32)
        self._features = Features()
        self._out = np.zeros(1 + LEVELS.size)

    def update(self, sample: float) -> None:
        """Take a sample."""
        self._seen[0], self._seen[1], base = self._features.step(sample)
        gates = self._gates @ self._seen
        gates += self._bias
        gates = 1 / (1 + np.exp(-gates))
        take, keep, new, show = gates.reshape(4, self._size)
        self._cell = keep * self._cell + take * (2 * new - 1)
        self._seen[2:] = show * np.tanh(self._cell)
        self._out = self._output @ self._seen[2:] + self._output_bias + base

    @property
    def point(self) -> float:
        """The point forecast."""
        return math.exp(self._out[0])

    @property
    def centre(self) -> np.ndarray:
        """Logarithms of the quantiles at `LEVELS`."""
        quantiles: np.ndarray = self._out[1:]
        return quantiles

    @property
    def scale(self) -> float:
        """Half of what lies between the first and the last decile."""
        return max(_LEAST_SCALE, float(self._out[_HIGH] - self._out[_LOW]) / 2)


def _cell_rows(state: np.ndarray) -> slice:
    """The rows of the cell's candidate among the gates."""
    size = state.shape[1]
    return slice(2 * size, 3 * size)


_LOW, _HIGH = (1 + int(np.argmin(abs(LEVELS - level))) for level in (0.1, 0.9))


def read_lstm(path: Path) -> Lstm:
    """The network in a file; BundleError if it is none."""
    return Lstm(read_weights(path))


def write_weights(path: Path, weights: LstmWeights) -> None:
    """Write a network's file, the same bytes each time; what was there is replaced, or kept.

    Raises InputError if it cannot be written.
    """
    arrays = {field.name: np.asarray(getattr(weights, field.name)) for field in fields(weights)}
    try:
        write_file(path, npz_bytes({"format": np.array(FORMAT), "levels": LEVELS, **arrays}))
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


def read_weights(path: Path, data: bytes = b"") -> LstmWeights:
    """The weights in a file; BundleError if it is no network of this format.

    `data` is the file's content, if it was read already.
    """
    try:
        found = read_npz(data or path)
    except UNREADABLE as error:
        raise BundleError(f"{path}: cannot be read as a predictor: {reason(error)}") from error
    wrong = _wrong(found)
    if wrong:
        raise BundleError(f"{path}: {wrong}; make it with vlacut train-predictor")
    names = ("input", "state", "bias", "output", "output_bias")
    arrays = {name: np.ascontiguousarray(found[name], np.float32) for name in names}
    return LstmWeights(
        interval_s=float(found["interval_s"]), shift=np.asarray(found["shift"], float), **arrays
    )


def _wrong(found: dict[str, np.ndarray]) -> str:
    """What is wrong with these arrays; empty if nothing is."""
    if "format" not in found or found["format"].shape or int(found["format"]) != FORMAT:
        return f"is no predictor of format {FORMAT}"
    state = found.get("state", np.empty((0, 0)))
    size = state.shape[-1]
    levels = LEVELS.size
    shapes = {
        "interval_s": (),
        "input": (4 * size, 2),
        "state": (4 * size, size),
        "bias": (4 * size,),
        "output": (1 + levels, size),
        "output_bias": (1 + levels,),
        "levels": (levels,),
        "shift": (levels,),
    }
    for name, shape in shapes.items():
        array = found.get(name)
        if array is None or array.shape != shape or array.dtype.kind != "f":
            return f"{name} is not an array of {shape} floats"
        if not np.isfinite(array).all():
            return f"{name} is not finite"
    if not (np.array_equal(found["levels"], LEVELS) and float(found["interval_s"]) > 0 and size):
        return "its levels, interval or size are not of this version"
    return ""
