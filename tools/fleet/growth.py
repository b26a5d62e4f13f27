"""How far a fleet grows: robots per GPU, servers and their talk up to 100,000 robots.

    .venv/bin/python tools/fleet/growth.py [--rate 10] [--cloud-ms 10] [--rest-ms 30]

Three tables, by `vlacut.simulation.growth` and by what calls cost on this machine:

- robots that a GPU serves with one late step in a thousand at most, beside those that are let in
- servers for so many robots, what the register of a cluster on Ray is told and answers, in
  processors of this machine (Ray's own calls come on top), and what servers of a list ask
- how evenly servers share robots that come in one rush, each asking any of them
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

from rich.console import Console
from rich.table import Table

from vlacut.runtime.cloud.directory import Directory, Standing
from vlacut.simulation.growth import Demand, Site, robots_per_gpu, traffic

SITES = (100, 1_000, 10_000, 100_000)
JITTERS_MS = (0.0, 10.0, 50.0)
CLOUD_MS = (1.0, 2.0, 5.0, 10.0, 20.0)
PER_SECOND = (1.0, 10.0, 100.0, 1000.0)
TURNS = 5


def main() -> None:
    """Compute, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rate", type=float, default=10.0, help="steps per second of a robot")
    parser.add_argument("--cloud-ms", type=float, default=10.0, help="of a step, in the engines")
    parser.add_argument("--rest-ms", type=float, default=30.0, help="of a step, elsewhere")
    chosen = parser.parse_args()
    console = Console(width=120)
    console.print(gpus(1 / chosen.rate, chosen.rest_ms / 1e3))
    demand = Demand(1 / chosen.rate, chosen.cloud_ms / 1e3, chosen.rest_ms / 1e3, 1 / chosen.rate)
    console.print(sites(max(1, robots_per_gpu(demand))))
    console.print(rush())


def gpus(period_s: float, rest_s: float) -> Table:
    """Robots of a GPU by the cloud's time of a step and by jitter; the deadline is the period."""
    columns = [f"in time, jitter {jitter:g} ms" for jitter in JITTERS_MS]
    table = Table("cloud ms a step", "let in", *columns, box=None)
    for milliseconds in CLOUD_MS:
        made = [
            Demand(period_s, milliseconds / 1e3, rest_s, period_s, jitter / 1e3)
            for jitter in JITTERS_MS
        ]
        found = [str(robots_per_gpu(demand)) for demand in made]
        table.add_row(f"{milliseconds:g}", str(made[0].admitted), *found)
    return table


def sites(per_server: int) -> Table:
    """What servers say to each other, and what that costs here."""
    columns = ("reports/s", "standings/s", "register, processors", "a server's share", "pages/s")
    table = Table("robots", "servers", *columns, box=None)
    for robots in SITES:
        found = traffic(robots, per_server)
        standings = [
            Standing(f"10.0.{index >> 8}.{index & 255}:7000", frozenset((bytes(32),)), 3, 9, 0.3)
            for index in range(found.servers)
        ]
        directory = Directory(stale_s=60.0)
        heard = spent(partial(directory.replace, standings))
        told = spent(partial(answered, directory, standings[0]))
        table.add_row(
            *(f"{robots:,}", f"{found.servers:,}", f"{found.reports:,.0f}"),
            *(f"{found.standings:,.0f}", f"{told * found.reports:.3f}"),
            *(f"{heard * found.reports / found.servers:.4f}", f"{found.pages:,.0f}"),
        )
    return table


def answered(directory: Directory, standing: Standing) -> list[Standing]:
    """What the register does with a report: `vlacut.api.cluster.member.Register`."""
    directory.report(standing)
    return directory.all


def spent(what: Callable[[], object]) -> float:
    """Seconds of a processor that a call takes, the least of several."""
    least = float("inf")
    for _ in range(TURNS):
        begin = time.thread_time()
        what()
        least = min(least, time.thread_time() - begin)
    return least


def rush() -> Table:
    """The fewest and the most robots of 16 servers after 256 have come."""
    table = Table("robots that come a second", "fewest on a server", "most", "even", box=None)
    for rate in PER_SECOND:
        site = Site(16, 64)
        site.come(256, rate)
        table.add_row(f"{rate:g}", str(min(site.robots)), str(max(site.robots)), "16")
    return table


if __name__ == "__main__":
    main()
