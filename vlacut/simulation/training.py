"""Training of the LSTM predictor (`vlacut.runtime.network.lstm`) on recorded bandwidths, with
torch.

Recordings are split whole: three quarters are fitted to; on the others it is measured when to stop,
and where the conformal corrections begin (split conformal prediction, Papadopoulos et al. 2002;
of quantiles, Romano, Patterson and Candès 2019). The same recordings and seed give the same file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vlacut.errors import InputError, Progress, unwatched
from vlacut.runtime.network.conformal import LEVELS
from vlacut.runtime.network.lstm import Features, Lstm, LstmWeights
from vlacut.runtime.network.smoothing import LEAST
from vlacut.simulation.scores import split_recordings

if TYPE_CHECKING:
    import torch

HIDDEN = 32  # as RoboECC's
EPOCHS = 30
_LENGTH = 128  # samples of a sequence
_SKIPPED = 8  # of these, before the state says something
_BATCH = 64
_RATE = 3e-3
_RATIO_SHARE = 4.0
_MOST_RATIO = 3.0
_RATIO_LEVEL = 0.4
_LEAST_SEQUENCES = 8

Recordings = Mapping[str, Sequence[np.ndarray]]


@dataclass(frozen=True)
class Trained:
    """A trained predictor.

    Attributes:
        weights: of it.
        fitted, kept: names of the recordings it was fitted to, and of those it was judged on.
        losses: on the latter, by epoch.
    """

    weights: LstmWeights
    fitted: tuple[str, ...]
    kept: tuple[str, ...]
    losses: tuple[float, ...]


def train(
    recordings: Recordings,
    interval_s: float,
    *,
    seed: int = 0,
    epochs: int = EPOCHS,
    progress: Progress = unwatched,
) -> Trained:
    """Fit the network.

    Args:
        recordings: of bytes per second of the wire, a sample each `interval_s`; pieces of a
            recording follow one another without being continuous.
        interval_s: seconds.
        seed: of the weights' start and the order of the sequences.
        epochs: how often each sequence is seen.
        progress: called with what is done, how much of it, and of how much.

    Raises InputError if there are too few samples.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums come in the same order every time
    try:
        return _train(recordings, interval_s, seed, epochs, progress)
    finally:
        torch.set_num_threads(threads)


def _train(
    recordings: Recordings,
    interval_s: float,
    seed: int,
    epochs: int,
    progress: Progress,
) -> Trained:
    import torch

    fitted, kept = split_recordings(list(recordings))
    fit = _sequences([piece for name in fitted for piece in recordings[name]])
    check = _sequences([piece for name in kept for piece in recordings[name]])
    if min(len(fit), len(check)) < _LEAST_SEQUENCES:
        raise InputError(
            f"{len(recordings)} recordings of {len(fit) + len(check)} sequences of {_LENGTH} "
            f"samples are too few to train on; it takes {4 * _LEAST_SEQUENCES} of two recordings"
        )
    generator = torch.Generator().manual_seed(seed)
    network = _network(generator)
    unit = float(np.abs(np.diff(fit.rates, axis=1)).mean())
    losses: list[float] = []
    best = network.state_dict()
    optimiser = torch.optim.Adam(network.parameters(), _RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for epoch in range(epochs):
        progress("train", epoch, epochs)
        _epoch(network, fit, unit, optimiser, generator)
        schedule.step()
        with torch.no_grad():
            losses.append(float(_loss(network, check, slice(None), unit)))
        if losses[-1] == min(losses):
            best = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(best)
    pieces = [piece for name in kept for piece in recordings[name]]
    weights = _calibrated(_exported(network, interval_s), pieces)
    return Trained(weights, tuple(fitted), tuple(kept), tuple(losses))


@dataclass(frozen=True)
class _Sequences:
    """Sequences of samples, row by row: features, what is added to the output, and what came."""

    features: np.ndarray
    base: np.ndarray
    rates: np.ndarray

    def __len__(self) -> int:
        return len(self.rates)


def _sequences(pieces: Sequence[np.ndarray]) -> _Sequences:
    features, bases, rates = [], [], []
    for piece in pieces:
        seen = Features()
        steps = np.array([seen.step(max(float(sample), LEAST)) for sample in piece])
        for start in range(0, len(piece) - _LENGTH, _LENGTH // 2):
            window = slice(start, start + _LENGTH)
            features.append(steps[window, :2])
            bases.append(steps[window, 2])
            rates.append(piece[start + 1 : start + _LENGTH + 1])
    if not rates:
        return _Sequences(np.empty((0, _LENGTH, 2)), np.empty((0, _LENGTH)), np.empty((0, _LENGTH)))
    return _Sequences(np.array(features), np.array(bases), np.array(rates))


def _network(generator: torch.Generator) -> torch.nn.ModuleDict:
    import torch

    network = torch.nn.ModuleDict(
        {
            "cell": torch.nn.LSTM(2, HIDDEN, batch_first=True),
            "output": torch.nn.Linear(HIDDEN, 1 + LEVELS.size),
        }
    )
    bound = HIDDEN**-0.5
    for parameter in network.parameters():
        torch.nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return network


def _epoch(
    network: torch.nn.ModuleDict,
    fit: _Sequences,
    unit: float,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
) -> None:
    import torch

    order = torch.randperm(len(fit), generator=generator).numpy()
    for start in range(0, len(fit), _BATCH):
        optimiser.zero_grad()
        loss = _loss(network, fit, order[start : start + _BATCH], unit)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it so
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()


def _loss(
    network: torch.nn.ModuleDict, data: _Sequences, rows: np.ndarray | slice, unit: float
) -> torch.Tensor:
    """Of the quantiles the pinball loss on logarithms (Koenker and Bassett 1978).

    Of the point forecast the Huber loss on bandwidths in units of their mean change, by which large
    bandwidths count more, as in a mean absolute error; and the absolute error of its logarithm,
    each by at most 1, by which all links count alike.
    """
    import torch

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(array[rows], dtype=torch.float32)

    hidden, _ = network["cell"](tensor(data.features))
    out = network["output"](hidden)[:, _SKIPPED:]
    base = tensor(data.base)[:, _SKIPPED:]
    rates = tensor(data.rates)[:, _SKIPPED:]
    short = (rates.clamp(min=LEAST).log() - base)[..., None] - out[..., 1:]
    levels = torch.as_tensor(LEVELS, dtype=torch.float32)
    pinball = torch.maximum(levels * short, (levels - 1) * short).mean()
    point = (base + out[..., 0].clamp(max=3.0)).exp()
    huber = torch.nn.functional.smooth_l1_loss(point / unit, rates / unit)
    over = (point.log() - rates.clamp(min=LEAST).log()).clamp(-_MOST_RATIO, _MOST_RATIO)
    ratio = 2 * torch.maximum((1 - _RATIO_LEVEL) * over, -_RATIO_LEVEL * over)
    loss: torch.Tensor = pinball + huber + _RATIO_SHARE * ratio.mean()
    return loss


def _exported(network: torch.nn.ModuleDict, interval_s: float) -> LstmWeights:
    state = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    return LstmWeights(
        interval_s,
        state["cell.weight_ih_l0"],
        state["cell.weight_hh_l0"],
        state["cell.bias_ih_l0"] + state["cell.bias_hh_l0"],
        state["output.weight"],
        state["output.bias"],
        np.zeros(LEVELS.size),
    )


def _calibrated(weights: LstmWeights, pieces: Sequence[np.ndarray]) -> LstmWeights:
    """With corrections that would have made the quantiles right on these pieces."""
    scores = []
    for piece in pieces:
        network = Lstm(weights)
        for index, sample in enumerate(np.maximum(piece, LEAST)):
            if index > _SKIPPED:
                scores.append((np.log(sample) - network.centre) / network.scale)
            network.update(float(sample))
    by_level = zip(np.array(scores).T, LEVELS, strict=True)
    shift = np.array([np.quantile(column, level) for column, level in by_level])
    return replace(weights, shift=shift)
