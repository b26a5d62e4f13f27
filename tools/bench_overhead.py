"""What a step costs beyond its engines: the robot and the cloud on loopback, engines that sleep.

A third of a model's time is on the edge before the cloud, a third in the cloud, a third on the edge
after it; 102 kB go up and 1.4 kB down. The models take turns, `--row` steps long (see
`tools/bench_wire.py`). The overhead is the step less what its engines took, as each side measured
them, over the latter. `socket` is the same for a bare TCP loop of two processes that sleep as the
engines do: what this machine takes to wake up, to copy and to switch, whoever asks. `cpu` is the
processor time of both sides in a step.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import numpy as np
from bench_wire import cpu_s
from echo import DIGEST, Sleeper, cloud, echo_plan
from rich.console import Console
from rich.table import Table
from wire_ways import fill

from vlacut.runtime.edge.session import EdgeSession

MODELS_MS = (5, 20, 100)
AIMS = (0.02, 0.01, 0.004)
UP, DOWN = 102_400, 1_400
WARM_UP = 5
CLOCK_BYTES = 8


class Step(NamedTuple):
    """Seconds of a step beyond its engines, and of these."""

    beyond: float
    engines: float


class Runner(NamedTuple):
    """Something that makes steps, and the process that answers it."""

    step: Callable[[], Step]
    pid: int


def main() -> None:
    """Measure, and print medians with the aims."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--row", type=int, default=1, help="steps of a model in a turn")
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve is not None:
        serve_socket(chosen.serve)
        return
    with ExitStack() as stack:
        runners = [
            (stack.enter_context(session(each)), stack.enter_context(bare_socket(each)))
            for each in MODELS_MS
        ]
        flat = [runner for pair in runners for runner in pair]
        found: list[list[Step]] = [[] for _ in flat]
        used = [-cpu_s(runner.pid) for runner in flat]
        for _ in range(chosen.rounds + WARM_UP):
            for index, runner in enumerate(flat):
                before = time.process_time()
                found[index] += [runner.step() for _ in range(chosen.row)]
                used[index] += time.process_time() - before
        cpu = [
            (own + cpu_s(each.pid)) / len(found[0]) for own, each in zip(used, flat, strict=True)
        ]
    show([steps[WARM_UP * chosen.row :] for steps in found], cpu)


def show(found: list[list[Step]], cpu: list[float]) -> None:
    """A row per model."""
    table = Table(title=f"Medians of {len(found[0])} steps: vlacut, then a bare socket")
    for column in ("model", "engines", *2 * ("beyond us", "cpu us", "share"), "aim"):
        table.add_column(column, justify="right")
    for index, (model, aim) in enumerate(zip(MODELS_MS, AIMS, strict=True)):
        cells = []
        for which in (2 * index, 2 * index + 1):
            beyond, engines = np.array(found[which]).T
            cells += [
                f"{np.median(beyond) * 1e6:.0f}",
                f"{cpu[which] * 1e6:.0f}",
                f"{np.median(beyond / engines):.2%}",
            ]
        took = np.median([step.engines for step in found[2 * index]])
        table.add_row(f"{model} ms", f"{took * 1e3:.1f} ms", *cells, f"{aim:.1%}")
    Console().print(table)


@contextmanager
def session(milliseconds: float) -> Iterator[Runner]:
    """A robot of a model that takes so long, with a cloud of its own."""
    third = milliseconds / 3
    engines = {
        "see": Sleeper("see/seen", UP, third * 1e-3),
        "act": Sleeper("act/action", DOWN, third * 1e-3),
    }
    observation = {"image": np.zeros(UP, np.uint8)}
    with (
        cloud(UP, DOWN, third) as (host, port, pid),
        EdgeSession(echo_plan(UP, DOWN), DIGEST, engines, (host, port)) as policy,
    ):

        def step() -> Step:
            policy.step(observation)
            report = policy.last
            took = sum(report.edge_s.values()) + sum(report.cloud_s.values())
            return Step(report.latency_s - took, took)

        yield Runner(step, pid)


@contextmanager
def bare_socket(milliseconds: float) -> Iterator[Runner]:
    """The same sleeps around a bare TCP loop."""
    third = milliseconds / 3e3
    words = [sys.executable, __file__, "--serve", str(third)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        data, reply = bytes(UP), memoryview(bytearray(CLOCK_BYTES + DOWN))
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def step() -> Step:
                start = time.perf_counter()
                slept = nap(third)
                sock.sendall(data)
                fill(sock, reply)
                slept += int.from_bytes(reply[:CLOCK_BYTES], "big") * 1e-9 + nap(third)
                return Step(time.perf_counter() - start - slept, slept)

            yield Runner(step, child.pid)
        child.kill()


def serve_socket(seconds: float) -> None:
    """The other end of `bare_socket`: it says how long it slept."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        sock, _ = listener.accept()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    room = memoryview(bytearray(UP))
    while fill(sock, room):
        slept = round(nap(seconds) * 1e9)
        sock.sendall(slept.to_bytes(CLOCK_BYTES, "big") + bytes(DOWN))


def nap(seconds: float) -> float:
    """Sleep; how long that was."""
    start = time.perf_counter()
    time.sleep(seconds)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
