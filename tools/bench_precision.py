"""Precisions side by side on this machine: speed, price and memory of one decoder's variants.

A decoder of 300 MB in float32 says seven tokens after a prompt. It is compiled once in float32, in
each precision, and by phase, all on the edge, and run by the real runtime with one thread; all ways
take turns. `x` is the median of what float32 takes over that of a way, in the step and in one trip
of its loop. `price` is that of a profile that `--edge` names, over what was measured.

With `--memory`: proportional set size of processes that load one way, all of them, and one way
three times. A page that several map is shared among them, so it is what they really hold.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from decode_heavy import Decoder, Size
from one_thread import with_one_thread
from precision_memory import held
from rich.console import Console
from rich.table import Table

import vlacut

TRIPS = 6
WARM_UP = 2
FLOAT = "float32"
WAYS = {
    FLOAT: "",
    "int8": "quantise{weights=int8}",
    "int4": "quantise{weights=int4 method=rtn observations=1 group=GROUP}",
    "prefill=int8+decode=int4": (
        "quantise{weights=int8 phases=prefill},"
        "quantise{weights=int4 method=rtn observations=1 group=GROUP phases=decode}"
    ),
}


class Found(NamedTuple):
    """Of a way: seconds of a step and of a trip of the loop, and what the plan says of the step."""

    way: str
    step_s: float
    trip_s: float
    price_s: float


def main() -> None:
    """Compile every way, measure, print tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--width", type=int, default=Size.width)
    parser.add_argument("--group", type=int, default=32, help="inputs that share a scale of int4")
    parser.add_argument("--edge", default="jetson-agx-orin", help="a profile of this machine")
    parser.add_argument("--memory", action="store_true")
    chosen = parser.parse_args()
    size = Size(width=chosen.width)
    with tempfile.TemporaryDirectory(prefix="vlacut-") as name:
        os.environ["VLACUT_ENGINES"] = f"{name}/engines"
        paths = [
            compiled(size, chosen.prompt, Path(name) / f"{index}.vlacut", text, chosen)
            for index, text in enumerate(WAYS.values())
        ]
        print(f"{size.nbytes / 1e6:.0f} MB of matrices in float32, a prompt of {chosen.prompt}")
        show(list(measured(paths, size, chosen.prompt, chosen.rounds)))
        if chosen.memory:
            show_memory(paths)


def compiled(size: Size, prompt: int, path: Path, passes: str, chosen: argparse.Namespace) -> Path:
    """The bundle of a way, all on the edge."""
    program = Decoder(size, prompt, TRIPS).program()
    link = "10MB/s,20ms"
    listed = f"simplify,{passes}," if passes else "simplify,"
    pipeline = (
        f"{listed.replace('GROUP', str(chosen.group))}annotate-structure,"
        f"annotate-cost{{edge={chosen.edge} cloud=a100}},partition{{link={link} pins=*=edge}}"
    )
    options: dict[str, Any] = {"edge": chosen.edge, "cloud": "a100", "link": link}
    vlacut.compile(program, out=path, pipeline=pipeline, golden=False, model_check=False, **options)
    return with_one_thread(path)


def measured(paths: Sequence[Path], size: Size, prompt: int, rounds: int) -> Iterator[Found]:
    """Every way, one step each in turn."""
    ids = np.random.default_rng(1).integers(0, size.words, (1, prompt))
    with ExitStack() as stack:
        robots = [stack.enter_context(vlacut.connect(path, in_place=True)) for path in paths]
        steps: list[list[float]] = [[] for _ in robots]
        trips: list[list[float]] = [[] for _ in robots]
        for turn in range(WARM_UP + rounds):
            for index, robot in enumerate(robots):
                start = time.perf_counter()
                robot.step({"ids": ids})
                if turn >= WARM_UP:
                    steps[index].append(time.perf_counter() - start)
                    trips[index].append(loop_seconds(robot))
        for way, robot, step, trip in zip(WAYS, robots, steps, trips, strict=True):
            price = robot.plan.variants[0].price.total_s
            yield Found(way, median(step), median(trip), price)


def loop_seconds(robot: vlacut.Policy) -> float:
    """Seconds of one trip of the last step's loop."""
    parts = robot.last.edge_s.items()
    spent: float = sum(took for name, took in parts if name.startswith("decode"))
    return spent / TRIPS


def show(found: Sequence[Found]) -> None:
    """The table of speed."""
    table = Table(box=None)
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
    sets |= {"int4, three times": [by_way["int4"]] * 3, "all": list(paths)}
    for name, listed in sets.items():
        table.add_row(name, *(f"{one / 1e6:.0f}" for one in held(listed)))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
