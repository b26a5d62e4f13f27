"""A run of the loop over episodes, and its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vlacut.control.cycle import Cycle
from vlacut.control.report import CommandReport, Route, Tallied, tally
from vlacut.control.tables import ActionTables
from vlacut.simulation.looped.course import TICK, Simulated
from vlacut.simulation.looped.recorded import Recorded


@dataclass(frozen=True, eq=False)
class Played:
    """A run.

    Attributes:
        reports: of every tick.
        errors: of every command, against what the policy would have said now, in shares of ranges.
        ran: tick, variant and seconds of every inference.
        routes: by variant.
    """

    reports: tuple[CommandReport, ...]
    errors: np.ndarray
    ran: tuple[tuple[int, int, float], ...]
    routes: tuple[Route, ...]

    @cached_property
    def tallied(self) -> Tallied:
        """Ages, starved ticks, and share of ticks without an inference."""
        return tally(self.reports)

    @property
    def error(self) -> float:
        """Mean error of a command."""
        return float(self.errors.mean())

    @property
    def edge_s(self) -> float:
        """Compute of the edge, in seconds."""
        return sum(self.routes[variant].edge_s for _, variant, _ in self.ran)

    @property
    def cloud_s(self) -> float:
        """Compute of the cloud, in seconds."""
        return sum(self.routes[variant].cloud_s for _, variant, _ in self.ran)

    @property
    def nbytes(self) -> int:
        """Bytes that crossed the link."""
        routes = self.routes
        return sum(routes[one].bytes_up + routes[one].bytes_down for _, one, _ in self.ran)

    @property
    def calls(self) -> int:
        """Inferences that the cloud had a share in."""
        return sum(self.routes[variant].route != "edge" for _, variant, _ in self.ran)


def play(
    recorded: Recorded,
    cycle: Cycle,
    runner: Simulated,
    routes: Sequence[Route],
    tables: ActionTables | None = None,
) -> Played:
    """Run the loop's own cycle over all episodes, tick by recorded tick.

    An episode begins with the chunk of its first tick. The network's recording begins with the
    first episode, and goes on through all of them.

    Args:
        recorded: the episodes.
        cycle: of one run.
        runner: that it has.
        routes: by variant.
        tables: that say what variants add to the error of a command; nothing, without them.
    """
    episodes = recorded.episodes
    start_ns = int(episodes.tick_ns[0])
    reports: list[CommandReport] = []
    errors = np.zeros(episodes.ticks)
    added = added_by(routes, tables)
    for first, end in episodes.bounds():
        cycle.reset()
        for tick in range(first, end):
            now = int(episodes.tick_ns[tick]) - start_ns
            late = int(episodes.tick_ns[tick] - episodes.captured_ns[tick])
            observation = {TICK: np.array(tick)}
            if tick == first:
                cycle.prime(runner.first(cycle.first(observation, now), now), now)
            report = cycle.tick(observation, now, now - late, recorded.moved[tick])
            reports.append(report)
            apart = np.abs(report.command - recorded.chunks[tick, 0]) / recorded.scale
            errors[tick] = apart.mean()
            if report.route is not None and report.inference is not None:
                errors[tick] += added[report.route.variant]
    return Played(tuple(reports), errors, tuple(runner.ran), tuple(routes))


def added_by(routes: Sequence[Route], tables: ActionTables | None) -> dict[str, float]:
    """What a variant adds to the error of a command: its table's mean over the bins' ticks."""
    if tables is None:
        return {route.variant: 0.0 for route in routes}
    shares = tables.counts / max(1, tables.counts.sum())
    rows = zip(tables.variants, tables.e_variant, strict=True)
    return {name: float(row @ shares) for name, row in rows}
