"""The ways to run a program's loop, with rate, latency and age: as a table, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from vlacut.cli.show.output import milliseconds, table
from vlacut.plans.ways import Way


def ways_json(ways: Sequence[Way]) -> list[dict[str, Any]]:
    """Every way; empty where a plan has one alone."""
    return [
        {
            "way": one.name,
            "in_flight": one.in_flight,
            "draft": one.draft,
            "passes": one.passes,
            "step_ms": one.step_s * 1e3,
            "actions_per_s": 1 / one.step_s,
            "latency_ms": one.latency_s * 1e3,
            "age_ms": one.age_s * 1e3,
            "taken": one.taken,
            "why_not": one.why_not,
        }
        for one in ways
    ]


def show_ways(console: Console, ways: Sequence[Way]) -> None:
    """The table, if there is more than one."""
    if len(ways) < 2:
        return
    columns = ("way", "passes", "ms", "actions/s", "latency", "age")
    rows = [_row(one) for one in ways]
    console.print(table("\nWays to run the loop, per control step", columns, rows))
    for one in ways:
        if one.why_not:
            console.print(f"* {one.name} is not allowed: {one.why_not}", style="dim")
    taken = next(one for one in ways if one.taken)
    console.print(
        f"Taken: {taken.name}. Age is that of the action in force on average, from its observation "
        f"to the middle of its use."
    )


def _row(way: Way) -> tuple[str, ...]:
    name = way.name + (" *" if way.why_not else "")
    if math.isinf(way.step_s):
        return name, "", "", "", "", ""
    times = (milliseconds(seconds) for seconds in (way.latency_s, way.age_s))
    rate = f"{1 / way.step_s:.3g}"
    return name, str(way.passes), milliseconds(way.step_s), rate, *times
