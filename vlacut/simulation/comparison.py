"""Selectors and predictors against each other and against the clairvoyant, over recordings."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from vlacut.errors import Progress, unwatched
from vlacut.hardware import Link
from vlacut.hardware.trace import Trace
from vlacut.plans.plan import Plan
from vlacut.runtime.network.estimate import sampling_interval
from vlacut.runtime.network.lstm import read_weights
from vlacut.runtime.network.predictors import LSTM, Predictor, make_predictor
from vlacut.runtime.network.selectors import RANDOM, SELECTORS, make_selector
from vlacut.simulation.forecasting import ByForecast
from vlacut.simulation.listening import ByFrames
from vlacut.simulation.loop import (
    Clairvoyant,
    Decider,
    Fixed,
    Outcome,
    network_of,
    run_loop,
    walks_of,
)
from vlacut.simulation.walk import SimulatedLink, StepWalk

CLAIRVOYANT = "clairvoyant"
LINK, FRAMES = "link", "frames"
_LEAST_INTERVAL_S = 0.05  # traces are no finer than 0.1 s, and every sample costs time


@dataclass(frozen=True)
class Recording:
    """A trace and what to call it."""

    name: str
    trace: Trace


@dataclass(frozen=True)
class Row:
    """A selector over all recordings.

    Attributes:
        selector: its name, or the variant's that it always runs.
        predictor: its name; empty where the selector asks for no forecast.
        outcomes: one per recording.
        deadline: seconds that a step may take; None for no deadline.
    """

    selector: str
    predictor: str
    outcomes: tuple[Outcome, ...]
    deadline: float | None

    @cached_property
    def latencies(self) -> np.ndarray:
        """Of all steps, in seconds."""
        return np.concatenate([outcome.latencies for outcome in self.outcomes])

    @property
    def mean_s(self) -> float:
        """Mean latency over all steps."""
        return float(self.latencies.mean())

    def quantile_s(self, share: float) -> float:
        """Latency that this share of the steps does not exceed."""
        return float(np.quantile(self.latencies, share))

    @property
    def missed(self) -> int | None:
        """Steps that took longer than the deadline; None without one."""
        if self.deadline is None:
            return None
        return int(np.count_nonzero(self.latencies > self.deadline))

    @property
    def switches(self) -> int:
        """Steps by another variant than the step before, within a recording."""
        return sum(outcome.switches for outcome in self.outcomes)

    def regret(self, clairvoyant: Row) -> float:
        """Mean latency above the clairvoyant's, as a share of that."""
        return self.mean_s / clairvoyant.mean_s - 1


@dataclass(frozen=True)
class Comparison:
    """What to run. If the link is sampled, the first step starts at its first sample.

    Attributes:
        plan: the bundle's plan.
        recordings: rates of the wire up; at least one.
        link: gives the round trip and the ratio of the downlink. With `frames`, the network that is
            assumed until something has crossed.
        period: seconds between starts of steps; None for back to back.
        seconds: no step starts later. Without this and `steps`, it is each recording's length.
        steps: the most steps in each recording.
        deadline: seconds that a step may take; None for none. It is counted, and told to selectors.
        knows: what selectors know: `link`, its mean rate in each interval; or `frames`, what the
            runtime learns from the frames that cross.
        interval: seconds between samples; by default the plan's, as in the runtime.
        model: weights of the predictor `lstm`.
        history: recordings to find RoboECC's thresholds on; without any they are found on the way.
    """

    plan: Plan
    recordings: Sequence[Recording]
    link: Link
    period: float | None = None
    deadline: float | None = None
    knows: str = LINK
    interval: float | None = None
    model: Path | None = None
    history: Sequence[Recording] = ()
    seconds: float | None = None
    steps: int | None = None

    def interval_s(self, predictor: str) -> float:
        """Seconds between the samples that a predictor gets.

        For `lstm` it is the interval that it was trained on. For the link it is at least 50 ms,
        unless an interval is given.
        """
        if predictor == LSTM and self.model is not None:
            return read_weights(self.model).interval_s
        if self.interval is not None:
            return self.interval
        due = sampling_interval(self.plan)
        return max(due, _LEAST_INTERVAL_S) if self.knows == LINK else due

    def run(
        self,
        selectors: Sequence[str],
        predictors: Sequence[str],
        progress: Progress = unwatched,
    ) -> tuple[Row, ...]:
        """Rows of the clairvoyant, then of every selector with every predictor that it uses.

        Raises InputError for names there are not, HardwareError for a trace that carries nothing.
        """
        entries = [(CLAIRVOYANT, ""), *self._entries(selectors, predictors)]
        networks = [network_of(self.link, recording.trace) for recording in self.recordings]
        walks, start = walks_of(self.plan), 0.0
        if self.knows == LINK:
            start = max(self.interval_s(predictor) for _, predictor in entries)
        rows = []
        for done, (selector, predictor) in enumerate(entries):
            progress(f"{selector} {predictor}", done, len(entries))
            deciders = self._deciders(selector, predictor, walks, networks)
            outcomes = tuple(
                run_loop(
                    walks,
                    network,
                    decider,
                    start=start,
                    seconds=self.seconds,
                    steps=self.steps,
                    period=self.period,
                )
                for network, decider in zip(networks, deciders, strict=True)
            )
            rows.append(Row(selector, predictor, outcomes, self.deadline))
        return tuple(rows)

    def _entries(
        self, selectors: Sequence[str], predictors: Sequence[str]
    ) -> list[tuple[str, str]]:
        entries = []
        for selector in dict.fromkeys(selectors):
            asks = selector in SELECTORS and selector != RANDOM
            entries += (
                [(selector, name) for name in dict.fromkeys(predictors)]
                if asks
                else [(selector, "")]
            )
        return entries

    def _deciders(
        self,
        selector: str,
        predictor: str,
        walks: Sequence[StepWalk],
        networks: Sequence[SimulatedLink],
    ) -> list[Decider]:
        if selector == CLAIRVOYANT:
            return [Clairvoyant(walks, network) for network in networks]
        names = [variant.name for variant in self.plan.variants]
        if selector in names:
            return [Fixed(names.index(selector)) for _ in networks]

        def make() -> Predictor:
            return make_predictor(predictor or "last", self.model)

        interval_s = self.interval_s(predictor)
        history = [recording.trace.sampled(interval_s) for recording in self.history]
        fresh = make_selector(
            selector, self.plan, deadline=self.deadline, history=history, predictor=make
        )
        deciders: list[Decider] = []
        for network in networks:
            own = deepcopy(fresh)  # its thresholds take long to find
            if self.knows == LINK:
                told: Decider = ByForecast(own, make, network, self.link, interval_s)
            else:
                told = ByFrames(own, make, walks, network, self.link, interval_s)
            deciders.append(told)
        return deciders
