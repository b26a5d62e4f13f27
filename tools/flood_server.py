"""How soon a robot with keys connects while a server is flooded with connections.

A server of its own process, with TLS. Hostile processes (`hostile_connects.py`) connect from one
loopback address, or from 250. The robot connects from an address of its own, again and again: TCP,
TLS and the greeting, dialling anew after a failure, for 30 s at most. Printed are the hostile
connects a second that were reached, and how many of them were answered, how the robot fared, what
of a core the server had, and whether `/healthz` answered beside 200 slow clients.

    python tools/flood_server.py [--seconds 10] [--rate 10000] [--processes 1]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from echo import DIGEST, Sleeper, echo_plan
from hostile_connects import SERVED, connecting

from vlacut.api.metrics import serve_metrics
from vlacut.errors import VlacutError
from vlacut.runtime.cloud.deployment import ready
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.edge.link import Endpoint, dial
from vlacut.runtime.wire.protocol.greeting import TOKEN_BYTES
from vlacut.runtime.wire.security import cloud_context, edge_context
from vlacut.security.keys import make_keys

UP, DOWN = 1024, 1024
HOSTILE = Path(__file__).with_name("hostile_connects.py")
_GIVES_UP_S = 30.0  # after which the robot has not connected


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each flood")
    parser.add_argument("--rate", type=float, default=10_000.0, help="hostile connections a second")
    parser.add_argument("--processes", type=int, default=1, help="that make them")
    parser.add_argument("--server", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.server:
        serve(Path(chosen.server))
    else:
        measure(chosen)


def serve(keys: Path) -> None:
    """The server: prints its ports, and ends with its standard input."""
    plan = echo_plan(UP, DOWN)
    engines = {"think": Sleeper("think/plan", DOWN, 0.001)}
    server = Server([ready(plan, DIGEST, engines)], tls=cloud_context(keys / "cloud"))
    _, metrics = serve_metrics(server, "127.0.0.1", 0).address
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps([server.address[1], metrics]), flush=True)
    sys.stdin.read()


def measure(chosen: argparse.Namespace) -> None:
    """Every flood in turn."""
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder)
        make_keys(keys, ["robot"], 2)
        with process(__file__, "--server", str(keys)) as server:
            assert server.stdout is not None
            port, metrics = json.loads(server.stdout.readline())
            report("nothing", robot(port, keys, chosen.seconds), (0.0, 0.0), 0.0)
            for addresses in (1, 250):
                with processes(hostile_words(port, addresses, chosen)) as running:
                    time.sleep(1.0)
                    before, start = processor_s(server), time.monotonic()
                    took = robot(port, keys, chosen.seconds)
                    share = (processor_s(server) - before) / (time.monotonic() - start)
                    rates = np.sum([ended(each) for each in running], axis=0)
                report(f"{addresses} addresses", took, rates, share)
            print(slow_clients(metrics))


def hostile_words(port: int, addresses: int, chosen: argparse.Namespace) -> list[list[str]]:
    """What each hostile process is started with: its share of the addresses and of the rate."""
    count, made = chosen.processes, []
    for each in range(count):
        first, end = addresses * each // count, max(1, addresses * (each + 1) // count)
        words = [str(each) for each in (port, first, end, chosen.rate / count)]
        made.append([str(HOSTILE), *words])
    return made


def processor_s(running: subprocess.Popen[str]) -> float:
    """Seconds of processor time that another process has had (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{running.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def process(*words: str) -> Iterator[subprocess.Popen[str]]:
    """A script as another process."""
    command = [sys.executable, *words]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            yield running
        finally:
            running.kill()


@contextmanager
def processes(words: Sequence[Sequence[str]]) -> Iterator[list[subprocess.Popen[str]]]:
    """Several of them."""
    if not words:
        yield []
        return
    with process(*words[0]) as first, processes(words[1:]) as others:
        yield [first, *others]


def ended(hostile: subprocess.Popen[str]) -> tuple[float, float]:
    """Ask a hostile process to end; connects that it tried a second, and those answered."""
    said, _ = hostile.communicate("\n", timeout=30)
    tried, answered = json.loads(said)
    return tried, answered


def robot(port: int, keys: Path, seconds: float) -> list[float]:
    """Seconds that connecting took, each until it succeeded or was given up."""
    plan, tls = echo_plan(UP, DOWN), edge_context(keys / "robot")
    took, end = [], time.monotonic() + seconds
    while (start := time.monotonic()) < end:
        token = random.randbytes(TOKEN_BYTES)
        endpoint = Endpoint((SERVED, port), DIGEST, token, 0.0, 10.0, tls)
        while time.monotonic() - start < _GIVES_UP_S:
            try:
                dial(endpoint, plan).connection.close()
                break
            except VlacutError:
                time.sleep(0.02)
        took.append(time.monotonic() - start)
        time.sleep(0.01)
    return took


def report(what: str, took: Sequence[float], rates: Sequence[float], share: float) -> None:
    """Three lines."""
    median, p99 = np.quantile(took, (0.5, 0.99)) * 1e3
    print(f"{what}: {rates[0]:.0f} hostile connects/s, {rates[1]:.0f} of them answered")
    print(
        f"    the robot connected {len(took)} times: median {median:.0f} ms, p99 {p99:.0f} ms, "
        f"worst {max(took) * 1e3:.0f} ms; not within {_GIVES_UP_S:.0f} s: "
        f"{sum(each > _GIVES_UP_S for each in took)}"
    )
    print(f"    the server had {share:.2f} of a core", flush=True)


def slow_clients(port: int) -> str:
    """Whether health is answered beside 200 clients that send a byte and no more."""
    slow = [connecting("127.0.0.9", port) for _ in range(200)]
    time.sleep(0.2)
    for sock in slow:
        with suppress(OSError):
            sock.send(b"G")
    took = []
    for _ in range(20):
        start = time.monotonic()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as reply:
            assert reply.status == 200
        took.append(time.monotonic() - start)
    for sock in slow:
        sock.close()
    return f"/healthz beside 200 slow clients: 20 of 20, the slowest in {max(took) * 1e3:.0f} ms"


if __name__ == "__main__":
    main()
