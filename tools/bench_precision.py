"""Precisions side by side on this machine: speed, price and memory of one decoder's variants.

A decoder of 300 MB in float32 says seven tokens after a prompt. It is compiled once in float32, in
each precision, and by phase, all on the edge, and run by the real runtime with one thread; all ways
take turns. `x` is the median of what float32 takes over that of a way, in the step and in one trip
of its loop. `price` is what a plan says of the step over what was measured. The machine is
calibrated in the same turns, so that a moment in which it is slower is one for both; or `--edge`
names a profile of it, which says what the machine could do when that was made. A second table has
the shortest runs in the place of medians: what the machine does undisturbed.

With `--memory`: proportional set size of processes that load one way, all of them, and one way
three times. A page that several map is shared among them, so it is what they really hold.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from decode_heavy import Size
from precision_memory import held
from precision_ways import WAYS, Found, compiled, measured
from rich.console import Console
from rich.table import Table


def main() -> None:
    """Compile every way, measure, print tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--width", type=int, default=Size.width)
    parser.add_argument("--group", type=int, default=32, help="inputs that share a scale of int4")
    parser.add_argument("--edge", default="", help="a profile of this machine; else calibrates")
    parser.add_argument("--memory", action="store_true")
    chosen = parser.parse_args()
    size = Size(width=chosen.width)
    with tempfile.TemporaryDirectory(prefix="vlacut-") as name:
        os.environ["VLACUT_ENGINES"] = f"{name}/engines"
        folder = Path(name)
        paths = [
            compiled(size, chosen, way, folder / f"{index}.vlacut")
            for index, way in enumerate(WAYS)
        ]
        print(f"{size.nbytes / 1e6:.0f} MB of matrices in float32, a prompt of {chosen.prompt}")
        for which, found in measured(paths, size, chosen, folder).items():
            show(which, found)
        if chosen.memory:
            show_memory(paths)


def show(which: str, found: Sequence[Found]) -> None:
    """The table of speed."""
    table = Table(box=None, title=which, title_justify="left")
    for column in ("way", "ms a step", "x", "ms a trip", "x", "price"):
        table.add_column(column, justify="left" if column == "way" else "right")
    first = found[0]
    for one in found:
        table.add_row(
            one.way,
            f"{one.step_s * 1e3:.1f}",
            f"{first.step_s / one.step_s:.2f}",
            f"{one.trip_s * 1e3:.2f}",
            f"{first.trip_s / one.trip_s:.2f}",
            f"{one.price_s / one.step_s:.2f}",
        )
    Console(width=100).print(table)


def show_memory(paths: Sequence[Path]) -> None:
    """The table of memory."""
    table = Table(box=None)
    for column in ("loaded", "MB of weights in the bundles", "MB anonymous", "MB of files"):
        table.add_column(column, justify="left" if column == "loaded" else "right")
    by_way = dict(zip(WAYS, paths, strict=True))
    sets = {way: [path] for way, path in by_way.items()}
    sets |= {"w4a8, three times": [by_way["w4a8"]] * 3, "all": list(paths)}
    for name, listed in sets.items():
        table.add_row(name, *(f"{one / 1e6:.0f}" for one in held(listed)))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
