"""Round trips of one tensor up and a small action down, on loopback, interleaved in one run.

The ways are those of `tools/wire_ways.py`. They take turns, `--row` trips long: after the turns of
the others the first trip finds cold caches, as a step does after a long engine; those behind it
find what a loop of short steps finds. `ms` is the median of a round trip, `cpu` the processor time
of both processes: on a machine that others use, that says more. Ratios are to the bare socket's.
Needs `pip install 'vlacut[bench]'`.
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from wire_ways import CLIENTS, Way

from vlacut.runtime.wire.protocol.envelope import checksum
from vlacut.runtime.wire.protocol.header import TENSORS, Header

SIZES = (8_192, 102_400, 301_056, 2_097_152)
PEERS = ("websocket", "zeromq", "grpc")
WARM_UP = 20


class Cost(NamedTuple):
    """Seconds of a round trip: the median, and of both processors on average."""

    seconds: float
    cpu_s: float


def main() -> None:
    """Measure, and print with the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--row", type=int, default=1, help="trips of a way in a turn")
    chosen = parser.parse_args()
    console = Console()
    for size in SIZES:
        console.print(show(size, measure(size, chosen.rounds, chosen.row)))
    console.print(checksums(chosen.rounds))


def measure(size: int, rounds: int, row: int) -> dict[str, Cost]:
    """What a round trip costs, by way: of so many rounds of turns of so many trips."""
    data = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    with ExitStack() as stack:
        ways = {name: stack.enter_context(client(size)) for name, client in CLIENTS.items()}
        times: dict[str, list[float]] = {name: [] for name in ways}
        here = dict.fromkeys(ways, 0.0)
        for number in range(rounds + WARM_UP):
            if number == WARM_UP:
                there = {name: cpu_s(way.pid) for name, way in ways.items()}
            for name, way in ways.items():
                used = time.process_time()
                took = [timed(way, data) for _ in range(row)]
                if number >= WARM_UP:
                    times[name] += took
                    here[name] += time.process_time() - used
        spent = {name: here[name] + cpu_s(way.pid) - there[name] for name, way in ways.items()}
    trips = rounds * row
    return {name: Cost(float(np.median(times[name])), spent[name] / trips) for name in ways}


def timed(way: Way, data: np.ndarray) -> float:
    """Seconds of a round trip."""
    start = time.perf_counter()
    way.trip(data)
    return time.perf_counter() - start


def cpu_s(pid: int) -> float:
    """Processor time of a process so far (Linux)."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) * 1e-9


def show(size: int, costs: dict[str, Cost]) -> Table:
    """A row a way."""
    best = min(costs[name].seconds for name in PEERS)
    table = Table(title=f"{size:,} bytes up")
    for column in ("way", "ms", "/ socket", "best peer /", "cpu ms", "cpu / socket"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for name, cost in costs.items():
        table.add_row(
            name,
            f"{cost.seconds * 1e3:.3f}",
            f"{cost.seconds / costs['socket'].seconds:.2f}",
            f"{best / cost.seconds:.2f}",
            f"{cost.cpu_s * 1e3:.3f}",
            f"{cost.cpu_s / costs['socket'].cpu_s:.2f}",
        )
    return table


def checksums(rounds: int) -> str:
    """What the checksum of the largest tensor costs, and a CRC of all its bytes."""
    data = np.random.default_rng(0).integers(0, 256, SIZES[-1], dtype=np.uint8)
    header = Header(TENSORS, 0, 0, 0, 0, data.nbytes)
    ways: tuple[Callable[[], int], ...]
    ways = (lambda: checksum(header, [data])), (lambda: zlib.crc32(data.data))
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for way, found in zip(ways, times, strict=True):
            start = time.perf_counter()
            way()
            found.append(time.perf_counter() - start)
    ours, crc = (float(np.median(found)) for found in times)
    return f"checksum of {SIZES[-1]:,} bytes: {ours * 1e3:.3f} ms, {ours / crc:.2f} x CRC-32's"


if __name__ == "__main__":
    main()
