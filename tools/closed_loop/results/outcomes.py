"""What episodes came to, and what can be said of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import beta

from vlacut.control.report import EDGE

from ..simulation.arm import RATE

if TYPE_CHECKING:
    from ..rollouts.scene import Run

_LEVEL = 0.95


@dataclass(frozen=True)
class Outcome:
    """An episode's figures.

    Attributes:
        seed: of it.
        success: whether the task was done in time.
        seconds: it took, or that there were.
        age_s: mean, of the observations behind commands.
        jerk: root of the mean square over its ticks, of the joints together, rad/s3.
        asked: inferences begun.
        free: share of the ticks that began none.
        cloud_s, edge_s: compute of them.
        nbytes: that crossed the link.
        step_s: mean time of an inference.
        exact: share of the inferences in the precision of the row's own bundle.
    """

    seed: int
    success: bool
    seconds: float
    age_s: float
    jerk: float
    asked: int
    free: float
    cloud_s: float
    edge_s: float
    nbytes: int
    step_s: float
    exact: float = 1.0

    def as_json(self) -> dict[str, float]:
        """Plain data."""
        return asdict(self)


def outcome_of(seed: int, run: Run) -> Outcome:
    """The figures of a run."""
    ages = [one.age_s for one in run.reports if one.command is not None]
    velocities = np.array([one.qd[-1] for one in run.sensed])
    jerk = np.diff(velocities, 2, axis=0) * RATE**2
    routes = [route for route, _ in run.ran]
    crossing = [route for route in routes if route.route != EDGE]
    return Outcome(
        seed,
        run.success,
        run.ticks / RATE,
        float(np.mean(ages)) if ages else 0.0,
        float(np.sqrt((jerk**2).sum(1).mean())) if len(jerk) else 0.0,
        len(run.ran),
        1 - len(run.ran) / run.ticks,
        sum(route.cloud_s for route in routes),
        sum(route.edge_s for route in routes),
        sum(route.bytes_up + route.bytes_down for route in crossing),
        float(np.mean([seconds for _, seconds in run.ran])) if run.ran else 0.0,
        float(np.mean([not route.rounded for route in routes])) if routes else 1.0,
    )


def interval(won: int, count: int, level: float = _LEVEL) -> tuple[float, float]:
    """Clopper and Pearson's exact interval of a share (Biometrika 26, 1934)."""
    tail = (1 - level) / 2
    low = 0.0 if won == 0 else float(beta.ppf(tail, won, count - won + 1))
    high = 1.0 if won == count else float(beta.ppf(1 - tail, won + 1, count - won))
    return low, high


def named(outcomes: Sequence[Outcome]) -> dict[str, bool]:
    """Successes by episode, as `vlacut accept` reads them."""
    return {str(one.seed): one.success for one in outcomes}
