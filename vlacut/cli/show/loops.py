"""What a control loop's run looks like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlacut.cli.show.output import console, milliseconds
from vlacut.control.report import CommandReport, tally
from vlacut.control.timeline import about


def loop_json(reports: Sequence[CommandReport]) -> dict[str, Any]:
    """The `loop` of `run --json`: what its ticks came to, and every command as numbers."""
    commands = [
        {**about(one), "command": None if one.command is None else one.command.tolist()}
        for one in reports
    ]
    return {**tally(reports).as_json(), "commands": commands}


def show_loop(reports: Sequence[CommandReport]) -> None:
    """Print what the ticks came to, in some lines; ages in milliseconds."""
    counted = tally(reports)
    mean, p95, p99 = map(milliseconds, counted.age_s)
    out = console()
    out.print(
        f"\n{counted.ticks} ticks; age of their commands: mean {mean} ms, p95 {p95}, p99 {p99}"
    )
    routes = ", ".join(f"{count} {route}" for route, count in counted.inferences.items())
    out.print(f"{counted.free:.1%} of them began no inference; chunks in force: {routes or 'none'}")
    if counted.starved:
        out.print(f"{counted.starved} had no command of a chunk")
    for why, count in counted.dropped.items():
        out.print(f"{count} chunks were not used: {why}")
