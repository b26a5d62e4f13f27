"""Many robots at a control rate on one server: errors, each robot's p99, the server's memory.

Each robot is a thread that steps at its rate; they share one process, so that its scheduling is in
the figures. Windows of a few seconds take turns, in each of which another process does one thing:

- nothing: it keeps a connection and says nothing
- flood: it sends the server steps as fast as the connection takes them, and waits for none
- stall: it sends half a frame, stops, and dials again when it is given up
- spin: it floods a server of its own, so that it takes this machine's processors as `flood` does,
  but nothing of the robots' server: what exceeds that is the server's unfairness

    python tools/bench_robots.py [--robots 32] [--seconds 60] [--window 2.5]
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from echo import DIGEST, Sleeper, cloud, echo_plan
from rich.console import Console
from rich.table import Table

from vlacut.errors import VlacutError
from vlacut.runtime.edge.link import Endpoint, dial
from vlacut.runtime.edge.report import Source
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.wire.connection import Connection
from vlacut.runtime.wire.protocol.greeting import TOKEN_BYTES
from vlacut.runtime.wire.protocol.header import TENSORS, Header

UP, DOWN = 8_192, 1_400
KINDS = ("nothing", "flood", "stall", "spin")
SETTLE_S = 0.3  # of a window that count for none: what was begun in the one before ends in it


class Step(NamedTuple):
    """A step: when it was due, seconds it took, and where its action came from."""

    due: float
    took: float
    source: Source


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--robots", type=int, default=32)
    parser.add_argument("--rate", type=float, default=10.0, help="steps per second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--window", type=float, default=2.5, help="seconds")
    parser.add_argument("--cloud-ms", type=float, default=1.0, help="of a step")
    parser.add_argument("--other", nargs=2, metavar=("KIND", "PORT"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.other:
        other(chosen.other[0], ("127.0.0.1", int(chosen.other[1])))
        return
    with ExitStack() as stack:
        address = stack.enter_context(cloud(UP, DOWN, chosen.cloud_ms))
        apart = stack.enter_context(cloud(UP, DOWN, chosen.cloud_ms))
        others = {
            kind: stack.enter_context(controlled(kind, (apart if kind == "spin" else address)[1]))
            for kind in KINDS
        }
        steps, errors, memory = drive(chosen, address[:2], address[2], others)
        sent = {kind: beside.end() for kind, beside in others.items()}
    show(chosen, steps, errors)
    print(f"frames sent: {sent['flood']} in flood, {sent['spin']} in spin")
    print(f"server's memory: {memory[0]:.1f} MB after a window, {memory[1]:.1f} MB at the end")


def drive(
    chosen: argparse.Namespace, address: tuple[str, int], pid: int, others: dict[str, Others]
) -> tuple[dict[str, list[list[Step]]], list[str], tuple[float, float]]:
    """The steps of each robot by kind of window, errors, and the server's memory in MB."""
    begin = time.monotonic() + 1.0
    end = begin + chosen.seconds
    steps: list[list[Step]] = [[] for _ in range(chosen.robots)]
    errors: list[str] = []
    spread = 1 / chosen.rate / chosen.robots
    threads = [
        threading.Thread(
            target=robot, args=(address, chosen.rate, begin + spread * index, end, mine, errors)
        )
        for index, mine in enumerate(steps)
    ]
    for thread in threads:
        thread.start()
    windows, memory = [], []
    for kind, start in zip(
        itertools.cycle(KINDS), np.arange(begin, end, chosen.window), strict=False
    ):
        time.sleep(max(0.0, start - time.monotonic()))
        others[kind].say("on")
        time.sleep(max(0.0, min(end, start + chosen.window) - time.monotonic()))
        others[kind].say("off")
        windows.append((kind, start + SETTLE_S, start + chosen.window))
        memory.append(resident_mb(pid))
    for thread in threads:
        thread.join()
    sorted_steps = {
        kind: [
            [step for step in mine if any(a <= step.due < b for k, a, b in windows if k == kind)]
            for mine in steps
        ]
        for kind in KINDS
    }
    return sorted_steps, errors, (memory[0], resident_mb(pid))


def robot(
    address: tuple[str, int],
    rate: float,
    begin: float,
    end: float,
    steps: list[Step],
    errors: list[str],
) -> None:
    """Step at a rate, and note when and how long."""
    engines = {"see": Sleeper("see/seen", UP, 0), "act": Sleeper("act/action", DOWN, 0)}
    observation = {"image": np.zeros(UP, np.uint8)}
    try:
        with EdgeSession(echo_plan(UP, DOWN), DIGEST, engines, address, deadline=1.0) as policy:
            due = begin
            while due < end:
                time.sleep(max(0.0, due - time.monotonic()))
                policy.step(observation)
                steps.append(Step(due, policy.last.latency_s, policy.last.source))
                due += 1 / rate
    except VlacutError as error:
        errors.append(str(error))


class Others(NamedTuple):
    """The process beside the robots."""

    child: subprocess.Popen[str]

    def say(self, word: str) -> None:
        """Turn it `on` or `off`."""
        assert self.child.stdin is not None
        self.child.stdin.write(word + "\n")
        self.child.stdin.flush()

    def end(self) -> int:
        """End it; frames it has sent."""
        return int(self.child.communicate()[0])


@contextmanager
def controlled(kind: str, port: int) -> Iterator[Others]:
    """A process that does one thing while it is on."""
    words = [sys.executable, __file__, "--other", kind, str(port)]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) as child:
        yield Others(child)


def other(kind: str, address: tuple[str, int]) -> None:
    """Do it whenever standard input says so; print how many frames that sent."""
    on, sent = threading.Event(), 0

    def listen() -> None:
        for line in sys.stdin:
            (on.set if line.strip() == "on" else on.clear)()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    while listener.is_alive():
        if on.wait(0.2):
            connection = dial(
                Endpoint(address, DIGEST, bytes(TOKEN_BYTES), 0.0, 10.0, None), echo_plan(UP, DOWN)
            ).connection
            try:
                for _ in DOINGS[kind](connection):
                    sent += 1
                    if not on.is_set():
                        break
            except VlacutError:
                continue  # it was given up: dial again
            finally:
                connection.close()
    print(sent)


def flood(connection: Connection) -> Iterator[None]:
    """Send the first frame of one step after the other."""
    data = np.zeros(UP, np.uint8)
    for step in itertools.count():
        connection.send(Header(TENSORS, 0, 1, 0, step, data.nbytes), [data])
        connection.flush()
        connection.superseded(step)  # reads what came back
        yield


def stall(connection: Connection) -> Iterator[None]:
    """Send the header of a frame and half of the rest, and wait."""
    connection.send(Header(TENSORS, 0, 1, 0, 0, UP), [np.zeros(UP // 2, np.uint8)])
    yield from nothing(connection)


def nothing(connection: Connection) -> Iterator[None]:
    """Say nothing."""
    while True:
        connection.peek()
        yield


DOINGS = {"nothing": nothing, "flood": flood, "stall": stall, "spin": flood}


def show(
    chosen: argparse.Namespace, steps: dict[str, list[list[Step]]], errors: Sequence[str]
) -> None:
    """A row a kind of window: p99 by robot, and its ratio to that with nothing beside."""
    table = Table(title=f"{chosen.robots} robots at {chosen.rate:g} Hz: p99 of a robot's steps, ms")
    for column in ("beside", "steps", "fell back", "least", "median", "most", "/ nothing"):
        table.add_column(column, justify="left" if column == "beside" else "right")
    middle: dict[str, float] = {}
    for kind, robots in steps.items():
        every = [step for mine in robots for step in mine]
        p99 = [np.quantile([step.took for step in mine], 0.99) * 1e3 for mine in robots if mine]
        middle[kind] = float(np.median(p99))
        table.add_row(
            kind,
            str(len(every)),
            str(sum(step.source is not Source.CHOSEN for step in every)),
            *(f"{value:.2f}" for value in (min(p99), middle[kind], max(p99))),
            f"{middle[kind] / middle['nothing']:.2f}",
        )
    Console().print(table)
    print(f"{len(errors)} errors", *errors[:3])


def resident_mb(pid: int) -> float:
    """Memory of a process (Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


if __name__ == "__main__":
    main()
