"""RoboECC's thresholds (sections IV-B3 and V-C2): when its selector moves the cut.

The change of the bandwidth is the prediction less the last measurement. Above `high`, the
paper's selector takes the variant that sends the most; below `low`, the one that sends the least;
between, it keeps the one in use. It prices none of them, so it can take a slower variant than the
one in use.

The paper finds the thresholds on historical bandwidths: `high` is the largest change; then `low`
by experiments; then `high` again by experiments. An experiment here is the mean price of a step
over the history, as the selector would have chosen, at each of a row of quantiles of the changes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vlacut.plans.plan import Plan
from vlacut.runtime.network.predictors import Predictor
from vlacut.runtime.network.smoothing import LEAST

_TRIED = 32


@dataclass(frozen=True)
class Thresholds:
    """Changes of the bandwidth, in bytes per second of the wire, beyond which the cut moves."""

    high: float = math.inf
    low: float = -math.inf


@dataclass(frozen=True)
class Change:
    """A predicted change of the uplink, and the bandwidth that came, in bytes per second."""

    predicted: float
    came: float


def changes_of(
    history: Iterable[Sequence[float]], predictor: Callable[[], Predictor]
) -> list[Change]:
    """The change that a new predictor predicts before every sample but a recording's first."""
    changes = []
    for recording in history:
        used = predictor()
        for before, came in itertools.pairwise(recording):
            used.update(before)
            changes.append(Change(used.predict() - before, came))
    return changes


class Experiment(NamedTuple):
    """Thresholds that were tried, and the mean price of a step with them, in seconds."""

    tried: Thresholds
    mean_s: float


def experiments(plan: Plan, changes: Sequence[Change]) -> tuple[list[Experiment], list[Experiment]]:
    """The paper's experiments (figure 7): each `low` beside the largest change as `high`, then each
    `high` beside the best `low`.

    A step is priced at the bandwidth that came, the downlink in the ratio of the plan's link.

    Args:
        plan: whose variants are chosen among.
        changes: of a history; at least one.
    """
    predicted = np.array([change.predicted for change in changes])
    prices = _prices(plan, [change.came for change in changes])
    most, least = extremes(plan)

    def of(high: float, low: float) -> Experiment:
        tried = Thresholds(high, low)
        return Experiment(tried, _mean_s(prices, predicted, tried, most, least))

    high = float(predicted.max())
    lows = [of(high, low) for low in (-math.inf, *_quantiles(predicted[predicted < 0]))]
    low = min(lows, key=lambda one: one.mean_s).tried.low
    return lows, [of(high, low) for high in (high, *_quantiles(predicted[predicted > 0]))]


def fit_thresholds(plan: Plan, changes: Sequence[Change]) -> Thresholds:
    """The thresholds by the paper's procedure; without a change, ones that nothing passes."""
    if not changes:
        return Thresholds()
    _, highs = experiments(plan, changes)
    return min(highs, key=lambda one: one.mean_s).tried


def extremes(plan: Plan) -> tuple[int, int]:
    """The variants that send the most and the least bytes in a step, the first of equals."""
    sent = [variant.price.bytes_up + variant.price.bytes_down for variant in plan.variants]
    return sent.index(max(sent)), sent.index(min(sent))


def _quantiles(values: np.ndarray) -> list[float]:
    return np.quantile(values, np.linspace(0, 1, _TRIED)).tolist() if values.size else []


def _prices(plan: Plan, rates: Sequence[float]) -> np.ndarray:
    """Seconds of a step, by sample and variant."""
    links = [plan.link.at(max(rate, LEAST)) for rate in rates]
    return np.array([[item.price.over(link) for item in plan.variants] for link in links])


def _mean_s(
    prices: np.ndarray, predicted: np.ndarray, tried: Thresholds, most: int, least: int
) -> float:
    """Mean price of the steps that a selector with these thresholds would have made."""
    moves = np.full(predicted.size, -1)
    moves[predicted > tried.high] = most
    moves[predicted < tried.low] = least
    at = np.maximum.accumulate(np.where(moves >= 0, np.arange(moves.size), -1))
    used = np.where(at >= 0, moves[np.maximum(at, 0)], 0)
    return float(prices[np.arange(moves.size), used].mean())
