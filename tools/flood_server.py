"""How soon a robot with keys connects while a server is flooded with connections.

A server of its own process, with TLS. Hostile processes open connections from one loopback address,
or from as many as asked for, and treat each as one of

- idle: keep it open and say nothing, for as long as the server lets them
- hang up: close it at once
- garbage: send what is no TLS, and close
- hello: send the first message of TLS, for which the server has to work, and no more

The robot connects from an address of its own, again and again: TCP, TLS and the greeting, dialling
anew after a failure. Printed are the hostile rate that was reached, how the robot fared, and
whether `/healthz` answered beside 200 slow clients.

    python tools/flood_server.py [--seconds 10] [--rate 10000] [--processes 1]
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from echo import DIGEST, Sleeper, echo_plan

from vlacut.cli.metrics import serve_metrics
from vlacut.errors import VlacutError
from vlacut.runtime.cloud.deployment import ready
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.edge.link import Endpoint, dial
from vlacut.runtime.wire.protocol import TOKEN_BYTES
from vlacut.runtime.wire.security import cloud_context, edge_context
from vlacut.security.keys import make_keys

UP, DOWN = 1024, 1024
KINDS = ("idle", "hang up", "garbage", "hello")
ROBOT = "127.0.0.1"
_IP_BIND_ADDRESS_NO_PORT = 24
_RESET = b"\1\0\0\0\0\0\0\0"  # SO_LINGER of no time: leaves no port behind
_KEPT = 400  # connections that a hostile process keeps open


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each flood")
    parser.add_argument("--rate", type=float, default=10_000.0, help="hostile connections a second")
    parser.add_argument("--processes", type=int, default=1, help="that make them")
    parser.add_argument("--server", help=argparse.SUPPRESS)
    parser.add_argument("--hostile", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.server:
        serve(Path(chosen.server))
    elif chosen.hostile:
        port, first, count = map(int, chosen.hostile)
        flood(port, [f"127.0.{1 + at // 250}.{2 + at % 250}" for at in range(first, count)], chosen)
    else:
        measure(chosen)


def serve(keys: Path) -> None:
    """The server: prints its ports, and ends with its standard input."""
    plan = echo_plan(UP, DOWN)
    engines = {"think": Sleeper("think/plan", DOWN, 0.001)}
    server = Server([ready(plan, DIGEST, engines)], tls=cloud_context(keys / "cloud"))
    _, metrics = serve_metrics(server, "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps([server.address[1], metrics]), flush=True)
    sys.stdin.read()


def measure(chosen: argparse.Namespace) -> None:
    """Every flood in turn."""
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder)
        make_keys(keys, ["robot"], 2)
        with process("--server", str(keys)) as server:
            assert server.stdout is not None
            port, metrics = json.loads(server.stdout.readline())
            report("nothing", robot(port, keys, chosen.seconds), 0.0)
            for addresses in (1, 250):
                hostile = [
                    (
                        str(port),
                        str(addresses * each // chosen.processes),
                        str(max(1, addresses * (each + 1) // chosen.processes)),
                    )
                    for each in range(chosen.processes)
                ]
                rates = [f"--rate={chosen.rate / chosen.processes}"]
                with processes([["--hostile", *each, *rates] for each in hostile]) as running:
                    time.sleep(1.0)
                    took = robot(port, keys, chosen.seconds)
                    rate = sum(ended(each) for each in running)
                report(f"{addresses} addresses", took, rate)
            print(slow_clients(metrics))


@contextmanager
def process(*words: str) -> Iterator[subprocess.Popen[str]]:
    """This script, as another process."""
    command = [sys.executable, __file__, *words]
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


def ended(hostile: subprocess.Popen[str]) -> float:
    """Ask a hostile process to end; the connections that it made a second."""
    made, _ = hostile.communicate("\n", timeout=30)
    return float(made)


def robot(port: int, keys: Path, seconds: float) -> list[float]:
    """Seconds that connecting took, each until it succeeded."""
    plan, tls = echo_plan(UP, DOWN), edge_context(keys / "robot")
    took, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.monotonic()
        token = random.randbytes(TOKEN_BYTES)
        while True:
            try:
                dial(
                    Endpoint((ROBOT, port), DIGEST, token, 0.0, 10.0, tls), plan
                ).connection.close()
                break
            except VlacutError:
                time.sleep(0.02)
        took.append(time.monotonic() - start)
        time.sleep(0.01)
    return took


def report(what: str, took: Sequence[float], rate: float) -> None:
    """One line."""
    median, p99 = np.quantile(took, (0.5, 0.99)) * 1e3
    print(
        f"{what:>14}: {rate:7.0f} hostile connections/s; the robot connected {len(took)} times: "
        f"median {median:.0f} ms, p99 {p99:.0f} ms, worst {max(took) * 1e3:.0f} ms"
    )


def hello() -> bytes:
    """The first message of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    there, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(there, out).do_handshake()
    return out.read()


def flood(port: int, addresses: Sequence[str], chosen: argparse.Namespace) -> None:
    """Connect at a rate until standard input says so; print the rate."""
    asked = threading.Event()

    def listen() -> None:
        sys.stdin.readline()
        asked.set()

    threading.Thread(target=listen, daemon=True).start()
    said, kept, made = {"garbage": b"hello" * 20, "hello": hello()}, deque[socket.socket](), 0
    pending: deque[tuple[socket.socket, str]] = deque()
    start = time.monotonic()
    while not asked.is_set():
        if made > chosen.rate * (time.monotonic() - start):
            time.sleep(0.001)
            continue
        pending.append((connecting(addresses[made % len(addresses)], port), KINDS[made % 4]))
        made += 1
        if len(pending) > 50:
            settle(*pending.popleft(), said, kept)
        while len(kept) > _KEPT:
            kept.popleft().close()
    print(made / (time.monotonic() - start))


def connecting(address: str, port: int) -> socket.socket:
    """A connection from an address, not waited for."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.bind((address, 0))
    sock.connect_ex((ROBOT, port))
    return sock


def settle(
    sock: socket.socket, kind: str, said: dict[str, bytes], kept: deque[socket.socket]
) -> None:
    """Do to a connection what its kind does."""
    if kind in said:
        with suppress(OSError):
            sock.send(said[kind])
    if kind in ("idle", "hello"):
        kept.append(sock)
    else:
        sock.close()


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
