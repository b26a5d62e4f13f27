"""What a robot that misbehaves inside batches does to the others' p99: a ratio within one run.

Robots step without pause on a server of its own process whose engines run for several at once, of
the decoder of `decode_heavy.py`, small. Beside them is one more, in a process of its own, which
does something else in every window, in turn:

- well: it steps as they do; the others' p99 beside it is what all ratios are to
- flood: it sends the first frame of one step after the other, and waits for none
- stall: it sends half a frame, stops for half a second, and dials again
- die: it sends a step, hangs up while that runs, and comes back a tenth of a second later
- storm: the same, but it comes back at once, as a new robot every time
- flood apart, storm apart: on a server of its own, so that it takes this machine's processors as
  before, but nothing of the robots' server: what is beyond that is the server's unfairness

    python tools/bench_batch_faults.py [--robots 4] [--seconds 60] [--window 2]
"""

from __future__ import annotations

import argparse
import itertools
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from bench_batch import compiled, server
from bench_robots import SETTLE_S, Others
from decode_heavy import Size
from rich.console import Console
from rich.table import Table

import vlacut
from vlacut.bundle.opened import Bundle
from vlacut.bundle.reading import read_bundle
from vlacut.errors import VlacutError
from vlacut.hardware import Side
from vlacut.runtime.edge.link import Endpoint, dial
from vlacut.runtime.wire.connection import Connection
from vlacut.runtime.wire.protocol.greeting import TOKEN_BYTES
from vlacut.runtime.wire.protocol.header import Header
from vlacut.runtime.wire.route import Send, routes_of

WELL, APART = "well", " apart"
PROMPT, SIZE = 16, Size(layers=4, width=256)
_STALLED_S = 0.5
_BACK_S = 0.1  # a process that starts anew takes longer
_DEADLINE_S = 2.0


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--robots", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--in-flight", type=int, default=0, help="requests of each robot")
    parser.add_argument("--window", type=float, default=2.0, help="seconds")
    parser.add_argument("--other", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.other:
        kind, bundle, cloud = chosen.other
        other(kind, Path(bundle), cloud)
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vlacut-")))
        path, requests = folder / "b.vlacut", chosen.in_flight
        bundle = compiled(SIZE, PROMPT, "1,2,4,8", path, in_flight=requests)
        cloud, apart = (stack.enter_context(server(bundle, "batches")) for _ in range(2))
        others = {
            kind: stack.enter_context(controlled(kind, bundle, apart if APART in kind else cloud))
            for kind in (WELL, *DOINGS)
        }
        steps = drive(chosen, bundle, cloud, others)
        did = {kind: one.end() for kind, one in others.items()}
    show(chosen.robots, steps, did)


def drive(
    chosen: argparse.Namespace, bundle: Path, cloud: str, others: Mapping[str, Others]
) -> dict[str, list[float]]:
    """Seconds of the robots' steps, by what the other did."""
    took: list[list[tuple[float, float]]] = [[] for _ in range(chosen.robots)]
    ended, ready = threading.Event(), threading.Barrier(chosen.robots + 1)
    threads = [
        threading.Thread(target=robot, args=(bundle, cloud, ready, ended, mine)) for mine in took
    ]
    for thread in threads:
        thread.start()
    ready.wait()
    found: dict[str, list[float]] = {kind: [] for kind in others}
    end = time.monotonic() + chosen.seconds
    for kind in itertools.cycle(others):
        begun = time.monotonic()
        if begun >= end:
            break
        others[kind].say("on")
        time.sleep(chosen.window)
        others[kind].say("off")
        until = time.monotonic()
        for mine in took:
            found[kind] += [spent for at, spent in mine if begun + SETTLE_S <= at < until]
        time.sleep(SETTLE_S)
    ended.set()
    for thread in threads:
        thread.join()
    return found


def robot(
    bundle: Path,
    cloud: str,
    ready: threading.Barrier,
    ended: threading.Event,
    took: list[tuple[float, float]],
) -> None:
    """Step without pause; when each step began, and its seconds."""
    observed = observation()
    with vlacut.connect(bundle, cloud, in_place=True, deadline=_DEADLINE_S) as policy:
        policy.step(observed)
        ready.wait()
        while not ended.is_set():
            start = time.monotonic()
            policy.step(observed)
            took.append((start, time.monotonic() - start))


def observation() -> dict[str, np.ndarray]:
    """What all robots see."""
    return {"ids": np.random.default_rng(1).integers(0, SIZE.words, (1, PROMPT))}


@contextmanager
def controlled(kind: str, bundle: Path, cloud: str) -> Iterator[Others]:
    """A process that does one thing while it is on."""
    words = [sys.executable, __file__, "--other", kind, str(bundle), cloud]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) as child:
        yield Others(child)


def other(kind: str, path: Path, cloud: str) -> None:
    """Do it whenever standard input says so; print how often."""
    on, done = threading.Event(), 0

    def listen() -> None:
        for line in sys.stdin:
            (on.set if line.strip() == "on" else on.clear)()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    bundle = read_bundle(path)
    while listener.is_alive():
        if not on.wait(0.2):
            continue
        try:
            for _ in well(path, cloud) if kind == WELL else faults(kind, bundle, cloud):
                done += 1
                if not on.is_set():
                    break
        except VlacutError:
            continue  # it was given up: dial again
    print(done)


def well(path: Path, cloud: str) -> Iterator[None]:
    """Step as the others do."""
    with vlacut.connect(path, cloud, in_place=True, deadline=_DEADLINE_S) as policy:
        while True:
            policy.step(observation())
            yield


def faults(kind: str, bundle: Bundle, cloud: str) -> Iterator[None]:
    """Dial, and do it until that ends."""
    host, _, port = cloud.rpartition(":")
    token = random.randbytes(TOKEN_BYTES)
    endpoint = Endpoint((host, int(port)), bundle.digest, token, _DEADLINE_S, 10.0, None)
    connection = dial(endpoint, bundle.plan).connection
    route = routes_of(bundle.plan, Side.EDGE)[0]
    first = next(stop for stop in route.stops if isinstance(stop, Send))
    arrays = [observation()[key] for key in first.tensors]
    try:
        yield from DOINGS[kind](connection, first, arrays)
    finally:
        connection.close()


def flood(connection: Connection, first: Send, arrays: Sequence[np.ndarray]) -> Iterator[None]:
    """Send the first frame of one step after the other."""
    for step in itertools.count(1):
        connection.post(first.envelope, step, arrays, b"", 0)
        connection.flush()
        connection.superseded(step)  # reads what came back
        yield


def stall(connection: Connection, first: Send, arrays: Sequence[np.ndarray]) -> Iterator[None]:
    """Send the header of a frame and half of the rest, and stop."""
    envelope, half = first.envelope, arrays[0].reshape(-1)[: arrays[0].size // 2]
    connection.send(Header(envelope.kind, *envelope.place, 1, envelope.nbytes), [half])
    connection.flush()
    time.sleep(_STALLED_S)
    yield


def storm(connection: Connection, first: Send, arrays: Sequence[np.ndarray]) -> Iterator[None]:
    """Send a step, and hang up while it runs."""
    connection.post(first.envelope, 1, arrays, b"", 0)
    connection.flush()
    time.sleep(random.uniform(0.0, 0.02))
    connection.close()
    yield


def die(connection: Connection, first: Send, arrays: Sequence[np.ndarray]) -> Iterator[None]:
    """The same, and stay away for a while."""
    yield from storm(connection, first, arrays)
    time.sleep(_BACK_S)


DOINGS = {
    "flood": flood,
    "stall": stall,
    "die": die,
    "storm": storm,
    f"flood{APART}": flood,
    f"storm{APART}": storm,
}


def show(robots: int, steps: Mapping[str, Sequence[float]], did: Mapping[str, int]) -> None:
    """A row a kind of window."""
    table = Table(title=f"{robots} robots in batches: steps, ms", box=None)
    for column in ("beside", "did so", "steps", "median", "p99", "/ well"):
        table.add_column(column, justify="left" if column == "beside" else "right")
    plain = np.quantile(steps[WELL], 0.99)
    for kind, spent in steps.items():
        median, p99 = np.quantile(spent, (0.5, 0.99))
        table.add_row(
            kind,
            f"{did[kind]} times",
            str(len(spent)),
            f"{median * 1e3:.1f}",
            f"{p99 * 1e3:.1f}",
            f"{p99 / plain:.2f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
