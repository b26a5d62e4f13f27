"""The commands of a loop as a track of the timeline, and their ages as a counter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlacut.control.report import CommandReport
from vlacut.runtime.edge.timeline import Counter, Slice

TRACK = "commands"


def command_slices(reports: Sequence[CommandReport]) -> list[Slice]:
    """Every command, for as long as it was in force: until the next tick."""
    made = []
    for one, after in zip(reports, [*reports[1:], None], strict=True):
        if one.command is None:
            continue
        ends = after.at_ns if after is not None else one.at_ns + 1
        name = f"{one.inference}[{one.index}]" + (" starved" if one.starved else "")
        made.append((one.at_ns, ends, name, about(one)))
    return made


def command_ages(reports: Sequence[CommandReport]) -> list[Counter]:
    """The ages of commands in milliseconds, at their ticks."""
    return [(one.at_ns, "age ms", one.age_s * 1e3) for one in reports if one.command is not None]


def about(report: CommandReport) -> dict[str, Any]:
    """A command's report as plain data, without the command."""
    route, motion = report.route, report.motion
    return {
        "tick": report.tick,
        "age_ms": report.age_s * 1e3,
        "inference": report.inference,
        "index": report.index,
        "chunks": list(report.chunks),
        "starved": report.starved,
        "variant": route.variant if route else "",
        "route": route.route if route else "",
        "precision": route.precision if route else "",
        "source": report.source,
        "asked": report.asked,
        "in_flight": report.in_flight,
        "dropped": report.dropped,
        "why": report.why,
        "motion": motion._asdict() if motion.samples else None,
    }
