"""The one controller against every single rule, at equal cost, on episodes nobody was fitted to.

Scripted episodes of an arm (`tests/support/arm.py`) in three sets: tables and thresholds are fitted
to the first; on the second, for every rule the price of cost is chosen at which `price` computes no
more than the rule does; on the third both are played, over the same bandwidths in virtual time with
the robot's own code. A row says what the rule and the controller err (in shares of the commands'
ranges) and compute, and the difference of their errors, paired by episode, with its 95 % interval
by the bootstrap (BCa of `scipy.stats`). It ends with 1 if the controller errs more than a rule, the
interval being above 0.

    python tools/compare_controllers.py [--episodes 60] [--trace recorded.csv]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.arm import TICK_S, episodes_of  # type: ignore[import-not-found]
from support.plans import routed_plan  # type: ignore[import-not-found]

from vlacut.control.controllers.naming import PERIODIC, PRICE, RAPID, RISK, WHEN_EMPTY
from vlacut.control.recording.episodes import Episodes
from vlacut.control.tables import ActionTables
from vlacut.control.ways.chunk import ChunkReader, parse_chunk
from vlacut.hardware.trace import Trace, read_trace
from vlacut.measurement.actions.calibrating import Worth, fit_tables
from vlacut.measurement.actions.chunks import with_fresh_chunks
from vlacut.simulation.looped.comparing import LoopComparison
from vlacut.tensor import TensorSpec

LENGTH, EVERY = 16, 5
CHANGING = Trace((2e6, 0.5e6, 4e6, 0.2e6), (3.0, 2.0, 4.0, 1.0))
# What a rule may be set to, from its own default to as often as it can.
RULES: tuple[tuple[str, Mapping[str, Any]], ...] = (
    (WHEN_EMPTY, {}),
    *((PERIODIC, {"period_s": period_s}) for period_s in (0.6, 0.45, 0.3, 0.2, 0.0)),
    (RAPID, {}),
    *((RAPID, {"most_age_s": age_s}) for age_s in (0.6, 0.3)),
    *((RISK, {"most_age_s": age_s}) for age_s in (2.0, 0.6, 0.3)),
)
FACTORS = tuple(np.geomspace(0.001, 10, 28).tolist())


@dataclass(frozen=True)
class Result:
    """A run over a set: mean error of a command, and seconds of compute, of every episode."""

    errors: np.ndarray
    costs: np.ndarray


@dataclass(frozen=True)
class Bench:
    """What all runs share."""

    tables: ActionTables
    trace: Trace

    def run(
        self, name: str, options: Mapping[str, Any], episodes: Episodes, factor: float = 1.0
    ) -> Result:
        """A controller over a set; `factor` times the error that `price` is allowed."""
        plan = routed_plan()
        tables = replace(self.tables, eps=factor * np.asarray(self.tables.eps))
        played = LoopComparison(
            *(plan, episodes, self.trace, plan.link, tables),
            selector="argmin",
            options={name: options},
        ).play(name)
        costs = np.zeros(episodes.ticks)
        for tick, variant, _ in played.ran:
            costs[tick] += played.routes[variant].edge_s + played.routes[variant].cloud_s
        bounds = list(episodes.bounds())
        return Result(
            np.array([played.errors[first:end].mean() for first, end in bounds]),
            np.array([costs[first:end].sum() for first, end in bounds]),
        )


def main() -> int:
    """Compare, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=60, help="of each set")
    parser.add_argument("--trace", type=Path, help="a recorded uplink; else one of four rates")
    asked = parser.parse_args()
    sets = [range(first, first + asked.episodes) for first in (0, 10_000, 20_000)]
    tables, worth = fitted(sets[0])
    said = ", ".join(f"{name} {area:.3f}" for name, area in worth.auc.items())
    print(f"ticks in which playing on is no worse: {worth.redundant:.1%}")
    print(f"area under the curve of critical ticks, held out: {said}")
    bench = Bench(tables, read_trace(asked.trace) if asked.trace else CHANGING)
    tuning, held_out = (with_fresh_chunks(*episodes_of(seeds)) for seeds in sets[1:])
    curve = [(one, bench.run(PRICE, {}, tuning, one).costs.mean()) for one in FACTORS]
    print(f"{'rule':24}{'errs':>8}{'s':>7}   {'price errs':>10}{'s':>7}   difference of errors")
    above = 0
    for name, options in RULES:
        tuned = bench.run(name, options, tuning).costs.mean()
        factor = factor_for(curve, tuned)
        rule = bench.run(name, options, held_out)
        one = bench.run(PRICE, {}, held_out, factor)
        least, most = interval(one.errors - rule.errors)
        above += least > 0
        setting = " ".join((name, *map(str, options.values())))
        print(
            f"{setting:24}{rule.errors.mean():8.4f}{rule.costs.mean():7.2f}   "
            f"{one.errors.mean():10.4f}{one.costs.mean():7.2f}   "
            f"{(one.errors - rule.errors).mean():+.4f} ({least:+.4f} to {most:+.4f})"
        )
    print(f"price, set to compute no more than a rule, errs more than {above} of {len(RULES)}")
    return int(above > 0)


def fitted(seeds: range) -> tuple[ActionTables, Worth]:
    """Tables of episodes whose variants say the same, as variants in full precision do."""
    episodes, chunks = episodes_of(seeds)
    output = TensorSpec("action", "float64", (1, LENGTH, 8))
    reader = ChunkReader(parse_chunk("action,switched=7"), output, {}, TICK_S)
    apart = np.zeros((2, len(range(0, episodes.ticks, EVERY)), 8))
    return fit_tables(episodes, reader, chunks, ["cut", "edge"], apart, EVERY)


def factor_for(curve: list[tuple[float, float]], cost: float) -> float:
    """Of the settings that cost no more the dearest one; the cheapest where none does."""
    within = [one for one in curve if one[1] <= cost]
    chosen = max(within, key=lambda one: one[1]) if within else min(curve, key=lambda one: one[1])
    return chosen[0]


def interval(differences: np.ndarray) -> tuple[float, float]:
    """Of their mean, at 95 %; no width where all are alike."""
    if np.ptp(differences) == 0:
        return float(differences[0]), float(differences[0])
    found = stats.bootstrap((differences,), np.mean, rng=0).confidence_interval
    return float(found.low), float(found.high)


if __name__ == "__main__":
    sys.exit(main())
