"""An inference: its request, its answer, and the runner that makes it.

The loop's own code knows no thread and no clock. On a robot a `Worker` makes inferences on a
thread (see worker.py), in virtual time `Delayed` does (see virtual.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from vlacut.runtime.edge.report import StepReport
from vlacut.runtime.network.selectors import Forecast


@dataclass(frozen=True, eq=False)
class Inference:
    """What is asked for.

    Attributes:
        number: counted from 0.
        observation: tensors by name; nobody else writes to them.
        captured_ns: when the observation was captured, on the loop's clock.
        tick: the tick that asked.
        variant: index of the plan's variant; None lets the runner choose.
        why: why it was asked for.
    """

    number: int
    observation: Mapping[str, np.ndarray]
    captured_ns: int
    tick: int
    variant: int | None
    why: str


@dataclass(frozen=True, eq=False)
class Answer:
    """What came of an inference.

    Attributes:
        inference: the inference.
        action: tensors by name; None if it failed.
        error: why it failed.
        captured_ns: when the observation that the action answers was captured; an earlier one if
            the session had to repeat an action.
        variant: index of the variant that ran, or was asked for.
        source: where the action comes from, see `vlacut.runtime.edge.report.Source`.
        seconds: how long it took.
        step: the session's report, if there is one.
    """

    inference: Inference
    action: Mapping[str, np.ndarray] | None
    error: str = ""
    captured_ns: int = 0
    variant: int = 0
    source: str = "chosen"
    seconds: float = 0.0
    step: StepReport | None = None


class Outlook(NamedTuple):
    """How long the next inference will take.

    Attributes:
        times: median seconds by variant, see `Situation.times`.
        late: seconds by variant that most inferences do not exceed.
        likely: index of the variant that the runner will choose if it is not told.
        forecast: forecast of the network, if there is one.
    """

    times: Sequence[float]
    late: Sequence[float]
    likely: int = 0
    forecast: Forecast | None = None


class Runner(Protocol):
    """Makes inferences, one at a time. No method waits."""

    def start(self, inference: Inference, now_ns: int) -> None:
        """Begin it; called only when none is under way."""

    def answer(self, now_ns: int) -> Answer | None:
        """The answer, given once; None while the inference is under way."""

    def outlook(self, now_ns: int) -> Outlook:
        """How long the next inference will take."""
