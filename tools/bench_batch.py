"""Robots on one server, with and without batches: actions a second, p99, and robots at a deadline.

The decoder of `decode_heavy.py`, 300 MB in float32, runs in the cloud: two servers of the same
bundle, one of which uses its engines for several robots, each in a process of its own with one
thread for engines. Robots are threads here that step without a pause over loopback; the two servers
take turns, so that both see the same machine.

`bound` is what the engines alone would gain, run here between the windows without a server: see
`batch_engines.py`. `robots at` a deadline: the most that are served with their p99 within it.
`alone` is one robot's step on the server with batches over its step, just before or after, on the
one without; a second robot of that one says how far two equal things are apart.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from batch_engines import Engines, on_one_thread
from decode_heavy import Decoder, Size
from rich.console import Console
from rich.table import Table

import vlacut
from vlacut.runtime.cloud.deployment import Offer
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.engines import cloud_engines

TRIPS = 6
WAYS = ("one by one", "batches")
_SETTLE = 2  # steps of a robot that count for none


class Served(NamedTuple):
    """What robots had in a window: seconds of each step, and how long the window was."""

    steps: list[float]
    seconds: float

    @property
    def rate(self) -> float:
        """Actions a second, of all robots."""
        return len(self.steps) / self.seconds


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--robots", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--prompt", type=int, default=16)
    parser.add_argument("--batch", default="1,2,4,8")
    parser.add_argument("--width", type=int, default=Size.width)
    parser.add_argument("--layers", type=int, default=Size.layers)
    parser.add_argument("--steps", type=int, default=6, help="of each robot in a window")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--alone", type=int, default=40, help="steps of one robot on each server")
    parser.add_argument("--deadlines", type=float, nargs="+", default=[1, 2, 4], help="seconds")
    parser.add_argument("--serve", nargs=2, metavar=("BUNDLE", "WAY"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        serve(Path(chosen.serve[0]), chosen.serve[1])
        return
    size = Size(layers=chosen.layers, width=chosen.width)
    print(f"{size.nbytes / 1e6:.0f} MB of matrices, prompt {chosen.prompt}, {TRIPS + 1} tokens")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vlacut-")))
        bundle = compiled(size, chosen.prompt, chosen.batch, folder / "b.vlacut")
        places = {way: stack.enter_context(server(bundle, way)) for way in WAYS}
        observed = {"ids": np.random.default_rng(1).integers(0, size.words, (1, chosen.prompt))}
        engines = Engines(bundle, {"decode": TRIPS})
        found: dict[tuple[int, str], Served] = {}
        for _ in range(chosen.rounds):
            for robots in chosen.robots:
                for way in WAYS:
                    made = window(bundle, places[way], robots, chosen.steps, observed)
                    before = found.get((robots, way), Served([], 0.0))
                    found[robots, way] = Served(
                        before.steps + made.steps, before.seconds + made.seconds
                    )
                    engines.run()
        ratios = alone(bundle, places, chosen.alone, observed) if chosen.alone else {}
    show(chosen.robots, found, chosen.deadlines, engines)
    for name, each in ratios.items():
        low, middle, high = np.quantile(each, (0.25, 0.5, 0.75))
        print(f"{name}: {middle:.3f} x, quartiles {low:.3f} and {high:.3f}, {len(each)} steps")


def compiled(size: Size, prompt: int, batch: str, path: Path, **options: Any) -> Path:
    """The bundle, all in the cloud; with more options of `vlacut.compile`."""
    vlacut.compile(
        Decoder(size, prompt, TRIPS).program(),
        out=path,
        pin=("*=cloud",),
        batch=batch,
        provider="cpu",
        golden=False,
        model_check=False,
        edge="jetson-agx-orin",
        cloud="a100",
        link="1GB/s,0.1ms",
        **options,
    )
    return path


@contextmanager
def server(bundle: Path, way: str) -> Iterator[str]:
    """A server of its own process: its HOST:PORT."""
    words = [sys.executable, __file__, "--serve", str(bundle), way]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        yield json.loads(child.stdout.readline())["cloud"]


def serve(path: Path, way: str) -> None:
    """Serve until standard input ends; engines have one thread."""
    opened = on_one_thread(path)

    def load() -> dict[str, Any]:
        engines = cloud_engines(opened, False, True)
        parts = opened.plan.part
        return engines if way == "batches" else {k: engines[k] for k in engines if k in parts}

    made = Server([Offer(opened.plan, opened.digest, load)], timeout=120.0)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    print(json.dumps({"cloud": "{}:{}".format(*made.address)}), flush=True)
    sys.stdin.read()
    made.shutdown()
    thread.join()


def window(
    bundle: Path, cloud: str, robots: int, steps: int, observed: dict[str, np.ndarray]
) -> Served:
    """So many robots, each so many steps after those that count for none."""
    spent: list[list[float]] = [[] for _ in range(robots)]
    begun, start = threading.Barrier(robots + 1), 0.0

    def drive(mine: list[float]) -> None:
        with vlacut.connect(bundle, cloud, in_place=True, timeout=120.0) as policy:
            for _ in range(_SETTLE):
                policy.step(observed)
            begun.wait()
            for _ in range(steps):
                before = time.perf_counter()
                policy.step(observed)
                mine.append(time.perf_counter() - before)

    threads = [threading.Thread(target=drive, args=(mine,)) for mine in spent]
    for thread in threads:
        thread.start()
    begun.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    return Served([one for mine in spent for one in mine], time.perf_counter() - start)


def alone(
    bundle: Path, places: dict[str, str], steps: int, observed: dict[str, np.ndarray]
) -> dict[str, list[float]]:
    """One robot at a time: its steps over those of one by one, of pairs one after the other."""
    plain, packed = (places[way] for way in WAYS)
    clouds = {"plain": plain, "alone": packed, "alone, without batches again": plain}
    spent: dict[str, list[float]] = {name: [] for name in clouds}
    with ExitStack() as stack:
        robots = {
            name: stack.enter_context(vlacut.connect(bundle, cloud, in_place=True, timeout=120.0))
            for name, cloud in clouds.items()
        }
        for number in range(_SETTLE + steps):
            order = list(robots)[:: 1 if number % 2 else -1]
            for name in order:
                before = time.perf_counter()
                robots[name].step(observed)
                if number >= _SETTLE:
                    spent[name].append(time.perf_counter() - before)
    first = spent.pop("plain")
    return {
        name: [one / other for one, other in zip(each, first, strict=True)]
        for name, each in spent.items()
    }


def show(
    robots: Sequence[int],
    found: dict[tuple[int, str], Served],
    deadlines: Sequence[float],
    engines: Engines,
) -> None:
    """The table, and the robots at each deadline."""
    table = Table(box=None)
    for column in ("robots", "actions/s", "batches", "x rate", "bound", "median ms", "batches"):
        table.add_column(column, justify="right")
    for column in ("p99 ms", "batches"):
        table.add_column(column, justify="right")
    for many in robots:
        plain, packed = (found[many, way] for way in WAYS)
        middle = [np.median(one.steps) * 1e3 for one in (plain, packed)]
        late = [np.percentile(one.steps, 99) * 1e3 for one in (plain, packed)]
        table.add_row(
            str(many),
            f"{plain.rate:.2f}",
            f"{packed.rate:.2f}",
            f"{packed.rate / plain.rate:.2f}",
            f"{engines.bound(many):.2f}",
            *(f"{one:.0f}" for one in (*middle, *late)),
        )
    Console().print(table)
    for deadline in deadlines:
        most = {
            way: max(
                (n for n in robots if np.percentile(found[n, way].steps, 99) <= deadline), default=0
            )
            for way in WAYS
        }
        print(f"robots at {deadline:g} s: " + ", ".join(f"{most[way]} {way}" for way in WAYS))


if __name__ == "__main__":
    main()
