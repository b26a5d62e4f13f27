"""The estimated bandwidth against the emulated one, burst by burst.

    python tools/check_estimate.py [--steps 20] [--pause 0.05]

An edge sends bursts of 25 kB, 100 kB and 400 kB to a cloud that computes for 10 ms and answers with
as much, over an emulated link of 8, 20, 40 and 80 Mbit/s and 5, 20 and 50 ms. Before every step but
the first two, what the edge expects of either direction after the last sample is compared with the
link. The exit status is 1 if a median is more than 15 % off.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import product

import numpy as np
from echo import DIGEST, Sleeper, cloud, echo_plan
from rich.console import Console
from rich.progress import track

from vlacut.cli.output import size, table
from vlacut.emulation import EmulatedLink, shape_of
from vlacut.hardware import Link, parse_link
from vlacut.runtime.predictors import PREDICTORS
from vlacut.runtime.session import EdgeSession

RATES = (8, 20, 40, 80)
ROUND_TRIPS = (5, 20, 50)
BURSTS = (25_000, 100_000, 400_000)
WITHIN = 0.15
_CLOUD_MS = 10.0
_SETTLE = 2
_AT_FIRST = "3MB/s,10ms"


@dataclass(frozen=True)
class Row:
    """Estimates over one link: bytes a second of either direction, and seconds, step by step."""

    link: Link
    burst: int
    up: tuple[float, ...]
    down: tuple[float, ...]
    rtt: tuple[float, ...]

    @property
    def errors(self) -> tuple[float, float]:
        """Median over the link's bandwidth, less one: up and down."""
        pairs = ((self.up, self.link.up), (self.down, self.link.down))
        up, down = (statistics.median(found) / truth - 1 for found, truth in pairs)
        return up, down


def emulated(server: tuple[str, int], link: Link) -> AbstractContextManager[EmulatedLink]:
    """The emulator, with an `address` to connect to: the one place that knows it."""
    return EmulatedLink(server, shape_of(link))


def main() -> None:
    """Run, print a row a link and burst."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between steps")
    asked = parser.parse_args()
    cases = list(product(RATES, ROUND_TRIPS, BURSTS))
    rows = [
        measure(parse_link(f"{rate}Mbit/s,{rtt}ms"), burst, asked.steps, asked.pause)
        for rate, rtt, burst in track(cases, "measure", console=Console(stderr=True))
    ]
    columns = ("link", "burst", "up, median", "quartiles", "down, median", "quartiles", "rtt ms")
    title = f"Estimate over emulated rate, {asked.steps} steps"
    Console(width=100, highlight=False).print(table(title, columns, [line(r) for r in rows]))
    off = [error for row in rows for error in row.errors if abs(error) > WITHIN]
    worst = max((abs(error) for row in rows for error in row.errors), default=0.0)
    sys.stdout.write(f"{len(off)} of {2 * len(rows)} medians off by over 15 %; worst {worst:.1%}\n")
    sys.exit(1 if off else 0)


def line(row: Row) -> tuple[str, ...]:
    """A row of the table."""
    cells: list[str] = []
    for found, truth in ((row.up, row.link.up), (row.down, row.link.down)):
        low, median, high = np.quantile(np.array(found) / truth - 1, (0.25, 0.5, 0.75))
        cells += [f"{median:+.1%}", f"{low:+.1%} {high:+.1%}"]
    return str(row.link), size(row.burst), *cells, f"{statistics.median(row.rtt) * 1e3:.1f}"


def measure(link: Link, burst: int, steps: int, pause: float) -> Row:
    """Drive steps over a link that the edge takes for another one at first."""
    engines = {"see": Sleeper("see/seen", burst, 0), "act": Sleeper("act/action", burst, 0)}
    observation = {"image": np.zeros(burst, np.uint8)}
    expected: list[Link] = []
    with (
        cloud(burst, burst, _CLOUD_MS) as (host, port, _),
        emulated((host, port), link) as between,
        EdgeSession(
            echo_plan(burst, burst),
            DIGEST,
            engines,
            between.address,
            predictor=PREDICTORS["last"],
            link=parse_link(_AT_FIRST),
        ) as edge,
    ):
        for _ in range(_SETTLE + steps):
            edge.step(observation)
            expected.append(edge.last.link)
            time.sleep(pause)
    kept = expected[_SETTLE:]
    rates = tuple(one.up for one in kept), tuple(one.down for one in kept)
    return Row(link, burst, *rates, tuple(one.rtt for one in kept))


if __name__ == "__main__":
    main()
