"""The estimated bandwidth against the emulated one, burst by burst.

    python tools/check_estimate.py [--steps 20] [--pause 0.05] [--packets]

An edge sends bursts of 25 kB, 100 kB and 400 kB to a cloud that computes for 10 ms and answers with
as much, over an emulated link of 8, 20, 40 and 80 Mbit/s and 5, 20 and 50 ms: a proxy, or with
`--packets` the packets of a real TCP. Before every step but the first two, what the edge expects of
either direction is compared with the link; a pause of 0.5 s shows connections that idled. The
proxy's round trips are longer by the pieces that it forwards. The exit status is 1 if a median is
more than 15 % off.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import product

import numpy as np
from echo import DIGEST, Sleeper, cloud, echo_plan
from rich.console import Console
from rich.progress import track
from tun_link import CANNOT, TunLink, cannot, entered

from vlacut.cli.show.output import size, table
from vlacut.emulation import EmulatedLink, shape_of
from vlacut.hardware import Link, parse_link
from vlacut.runtime.cloud.deployment import ready
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.network.predictors import PREDICTORS

RATES = (8, 20, 40, 80)
ROUND_TRIPS = (5, 20, 50)
BURSTS = (25_000, 100_000, 400_000)
WITHIN = 0.15
_CLOUD_MS = 10.0
_SETTLE = 2
_AT_FIRST = "3MB/s,10ms"
_CLOUD_HOST = "10.77.0.2"  # of TunLink


@dataclass(frozen=True)
class Between:
    """An emulated link in use: where to connect, and what to enter while doing so."""

    address: tuple[str, int]
    inside: AbstractContextManager[None]


Way = Callable[[Link, int], AbstractContextManager[Between]]


@dataclass(frozen=True)
class Row:
    """Estimates over one link: bytes per second of either direction, and seconds, step by step."""

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


@contextmanager
def proxied(link: Link, burst: int) -> Iterator[Between]:
    """A proxy, and a cloud in a process of its own."""
    with (
        cloud(burst, burst, _CLOUD_MS) as (host, port, _),
        EmulatedLink((host, port), shape_of(link)) as proxy,
    ):
        yield Between(proxy.address, nullcontext())


@contextmanager
def packets(link: Link, burst: int) -> Iterator[Between]:
    """Two namespaces with the packets of a real TCP between them, and a cloud in the second."""
    with TunLink(shape_of(link)) as tun:
        engines = {"think": Sleeper("think/plan", burst, _CLOUD_MS * 1e-3)}
        with entered(tun.names[1]):
            offer = ready(echo_plan(burst, burst), DIGEST, engines)
            server = Server([offer], _CLOUD_HOST, insecure=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Between(server.address, entered(tun.names[0]))
        finally:
            server.shutdown()
            thread.join()


def main() -> None:
    """Run, print a row per link and burst."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between steps")
    parser.add_argument("--packets", action="store_true", help="through a real TCP: needs root")
    parser.add_argument("--bursts", nargs="+", type=int, default=BURSTS, help="bytes")
    asked = parser.parse_args()
    if asked.packets and cannot():
        sys.stdout.write(f"this machine cannot: {cannot()}\n")
        sys.exit(CANNOT)
    way: Way = packets if asked.packets else proxied
    cases = list(product(RATES, ROUND_TRIPS, asked.bursts))
    rows = [
        measure(way, parse_link(f"{rate}Mbit/s,{rtt}ms"), burst, asked.steps, asked.pause)
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


def measure(way: Way, link: Link, burst: int, steps: int, pause: float) -> Row:
    """Drive steps over a link that the edge takes for another one at first."""
    engines = {"see": Sleeper("see/seen", burst, 0), "act": Sleeper("act/action", burst, 0)}
    observation = {"image": np.zeros(burst, np.uint8)}
    found: list[Link] = []
    with way(link, burst) as between:
        with between.inside:
            edge = EdgeSession(
                echo_plan(burst, burst),
                DIGEST,
                engines,
                between.address,
                predictor=PREDICTORS["last"],
                link=parse_link(_AT_FIRST),
                insecure=True,
            )
        with edge:
            for _ in range(_SETTLE + steps):
                edge.step(observation)
                found.append(edge.last.link)
                time.sleep(pause)
    kept = found[_SETTLE:]
    rates = tuple(one.up for one in kept), tuple(one.down for one in kept)
    return Row(link, burst, *rates, tuple(one.rtt for one in kept))


if __name__ == "__main__":
    main()
