"""The age of the action in force as the plan has it and as the twin has, for ways to run a loop.

The decoder of `decode_heavy.py`, trip by trip, with requests in flight in one pass over the weights
and in several, and over drafts; all on the robot, or all in the cloud, over a link. The twin runs
the real runtime in real time: parts take the plan's time, and the link is emulated, in a process of
its own. A step begins when the one before has returned. The exit status is 1 if an age is not
within 5 % of what was priced. What else runs on this machine makes the twin late, never early.
Drafts take the time of those that the plan counts as right.

    python tools/check_age.py [--steps 40] [--link 10MB/s,50ms]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from decode_heavy import Decoder, Size
from rich.console import Console
from rich.table import Table

import vlacut
from vlacut.bundle.reading import read_bundle
from vlacut.emulation import shape_of
from vlacut.emulation.twin import TwinStep, run_twin

WITHIN = 0.05
PROMPT, TRIPS = 16, 6
SIZE = Size(width=2048)  # steps of some 100 ms, beside which the runtime's own time is little
WAYS: dict[str, dict[str, Any]] = {
    "trip by trip": {},
    "2 in flight": {"in_flight": 2},
    "4 in flight": {"in_flight": 4},
    "7 in flight": {"in_flight": 7},
    "drafts": {"draft": "last"},
}
PLACES: dict[str, tuple[str, ...]] = {
    "edge": ("*=edge",),
    "cloud": ("*=cloud",),
}


class Unfilled(Decoder):
    """The decoder with weights that take no time to draw: nothing is computed with them."""

    def _weight(self, graph: Any, name: str, rows: int, columns: int = 0) -> str:
        if name not in self._weights:
            array = np.full((rows, columns or self._size.width), 1 + len(self._weights), np.float32)
            self._weights[name] = ir.tensor(array, name=name)
        return super()._weight(graph, name, rows, columns)


def main() -> None:
    """Compile, run, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--link", default="10MB/s,50ms")
    parser.add_argument("--places", nargs="+", default=list(PLACES), choices=PLACES)
    chosen = parser.parse_args()
    table = Table(title="age of the action in force, milliseconds", box=None)
    for column in ("way", "where", "steps behind", "priced step", "priced age", "twin", "off"):
        justify: Any = "left" if column in ("way", "where") else "right"
        table.add_column(column, justify=justify)
    worst = 0.0
    for way, options in WAYS.items():
        for place in chosen.places:
            row, off = checked(way, options, place, chosen)
            table.add_row(*row)
            worst = max(worst, abs(off))
    Console().print(table)
    sys.exit(1 if worst > WITHIN else 0)


def checked(
    way: str, options: dict[str, Any], place: str, chosen: argparse.Namespace
) -> tuple[list[str], float]:
    """A row, and how far the twin is off what was priced."""
    with tempfile.TemporaryDirectory(prefix="vlacut-") as folder:
        path = Path(folder) / "b.vlacut"
        vlacut.compile(
            Unfilled(SIZE, PROMPT, TRIPS).program(),
            out=path,
            pin=PLACES[place],
            backend="emulated",
            golden=False,
            model_check=False,
            edge="jetson-orin-nx",
            cloud="a100",
            link=chosen.link,
            **options,
        )
        plan = read_bundle(path).plan
        steps = run_twin(path, shape_of(plan.link), steps=plan.warming + chosen.steps)
    found = in_force_s(steps)
    off = found / plan.age_s - 1
    priced = plan.variants[0].price.total_s * 1e3, plan.age_s * 1e3, found * 1e3
    return [way, place, str(plan.warming), *(f"{one:.2f}" for one in priced), f"{off:+.1%}"], off


def in_force_s(steps: Sequence[TwinStep]) -> float:
    """Mean age over the time in which actions are in force: each until the next is there."""
    made = [one for one in steps if not one.report.warming]
    returned = np.array([one.start_s + one.report.latency_s for one in made])
    used = np.diff(returned)
    ages = np.array([one.report.age_s for one in made[:-1]])
    return float(np.average(ages + used / 2, weights=used))


if __name__ == "__main__":
    main()
