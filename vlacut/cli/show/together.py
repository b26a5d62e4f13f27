"""What a server carries one by one and in batches, as predicted: a table."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Console

from vlacut.cli.show.output import milliseconds, table
from vlacut.hardware import Side
from vlacut.plans.instructions import runs
from vlacut.plans.plan import Part, Plan


def show_together(console: Console, plan: Plan) -> None:
    """The table, if parts have engines for several robots."""
    rows = [
        (str(size), milliseconds(step_s), str(one_by_one), str(batches))
        for size, step_s, one_by_one, batches in carried(plan)
    ]
    if rows:
        columns = ("robots at once", "ms a step", "robots, one by one", "in batches")
        console.print(table("\nRobots on one server with that as deadline", columns, rows, left=0))


def carried(plan: Plan) -> Iterator[tuple[int, float, int, int]]:
    """Of every size of batches: how many robots, seconds of a step in such a batch, and how many
    robots a server whose engines are never idle carries with that as deadline, their steps one
    after the other, one by one and in such batches. Nothing without batches.

    A robot of a batch waits for all of it, and takes its share of the engines. A part without an
    engine of the size runs for one robot after the other.
    """
    counted = runs(plan.variants[0].schedule)
    parts = [(plan.part[name], times) for name, times in counted.items()]
    cloud = [(part, times) for part, times in parts if part.side is Side.CLOUD]
    price = plan.variants[0].price
    alone_s = sum(part.seconds * times for part, times in cloud)
    for size in sorted({batch.robots for part, _ in cloud for batch in part.batches}):
        together_s = sum(_seconds(part, size) * times for part, times in cloud)
        step_s = price.total_s - alone_s + together_s
        if alone_s and together_s:
            yield size, step_s, _fit(step_s, alone_s), _fit(step_s, together_s / size)


def _seconds(part: Part, size: int) -> float:
    """Of a part's runs for so many robots."""
    found = {batch.robots: batch.seconds for batch in part.batches}
    return found.get(size, size * part.seconds)


def _fit(step_s: float, share_s: float) -> int:
    """Robots whose shares of the engines fit into a step."""
    return math.floor(step_s / share_s * (1 + 1e-9))
