"""What a policy's precisions are worth on this machine: bytes of weights, and time of a step.

    python -m tools.closed_loop.worth [--folder bench] [--policy flow]

The bundles are those of `report --tables precisions-...`, compiled if they are not there. Each runs
in place, both sides of it, a step of each in turn. `x` is the median of the program as it is over
that of the precision.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

import vlacut
from vlacut.bundle.reading import read_bundle
from vlacut.measurement.stopwatch import measure

from .rollouts.programs import PRECISIONS, Made

_WEIGHTS = Path(__file__).parent / "weights"


def main() -> None:
    """Compile, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("bench"))
    parser.add_argument("--weights", type=Path, default=_WEIGHTS)
    parser.add_argument("--policy", default="flow")
    parser.add_argument("--turns", type=int, default=51)
    chosen = parser.parse_args()
    made = [
        Made(chosen.policy, chosen.weights, chosen.folder / "bundles", precision)
        for precision in PRECISIONS.values()
    ]
    for one in made:
        one.build()
    show([one.path for one in made], chosen.turns)


def show(paths: Sequence[Path], turns: int) -> None:
    """The table, of bundles in the order of `PRECISIONS`."""
    stored, took = [stored_bytes(path) for path in paths], seconds(paths, turns)
    table = Table(box=None)
    for column in ("", "kB of weights", "share", "ms a step", "x"):
        table.add_column(column, justify="right" if column else "left")
    for label, nbytes, step_s in zip(PRECISIONS, stored, took, strict=True):
        row = f"{nbytes / 1e3:.0f}", f"{nbytes / stored[0]:.1%}"
        table.add_row(label, *row, f"{step_s * 1e3:.2f}", f"{took[0] / step_s:.2f}")
    Console(width=100).print(table)


def stored_bytes(path: Path) -> int:
    """Bytes of the weights in a bundle."""
    files = read_bundle(path).manifest.files
    return sum(size.nbytes for name, size in files.items() if name.startswith("weights"))


def seconds(paths: Sequence[Path], turns: int) -> list[float]:
    """Of a step of each."""
    with ExitStack() as stack:
        runs = []
        for path in paths:
            robot = stack.enter_context(vlacut.connect(path, in_place=True))
            runs.append(partial(robot.step, read_bundle(path).golden("observation")))
        return [one.seconds for one in measure(runs, turns)]


if __name__ == "__main__":
    main()
