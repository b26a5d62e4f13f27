"""A deployment for the benchmarks: one tensor up, one part in the cloud, one tensor down.

Run by path it is the cloud: `python tools/echo.py UP_BYTES DOWN_BYTES CLOUD_MS [TLS_FOLDER]` prints
its port and serves until its standard input ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from vlacut.hardware import Link, Side
from vlacut.plans.instructions import Loop, Run, Transfer
from vlacut.plans.plan import Part, Plan, Variant
from vlacut.pricing.price import Certificate, Price
from vlacut.runtime.cloud.deployment import ready
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.wire.security import cloud_context
from vlacut.tensor import TensorSpec

DIGEST = bytes(32)
_FREE = Price(
    edge_s=0,
    cloud_s=0,
    up_s=0,
    down_s=0,
    hop_s=0,
    bytes_up=0,
    bytes_down=0,
    crossings=0,
    hops=0,
    edge_weight_bytes=0,
    cloud_weight_bytes=0,
)


class Sleeper:
    """An engine that takes a time and gives a tensor: like a GPU, it leaves the processor alone."""

    def __init__(self, key: str, nbytes: int, seconds: float) -> None:
        self._made = {key: np.zeros(nbytes, np.uint8)}
        self._seconds = seconds

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The tensor, after the time."""
        if self._seconds:
            time.sleep(self._seconds)
        return self._made


def echo_plan(up: int, down: int, trips: int = 1) -> Plan:
    """Observation `image` -> edge part `see` -> cloud part `think` -> edge part `act`, `trips`
    times.
    """
    specs = {
        "image": TensorSpec("image", "uint8", (up,)),
        "see/seen": TensorSpec("see/seen", "uint8", (up,)),
        "think/plan": TensorSpec("think/plan", "uint8", (down,)),
        "act/action": TensorSpec("act/action", "uint8", (down,)),
    }
    keys = list(specs)
    sides = {"see": Side.EDGE, "think": Side.CLOUD, "act": Side.EDGE}
    parts = tuple(
        Part(
            name=name,
            phase=name,
            side=side,
            inputs=(read,),
            outputs=(made,),
            weights=(),
            weight_bytes=0,
            seconds=0.0,
            saves_s=0.0,
            label=name,
            digest=name,
        )
        for (name, side), read, made in zip(sides.items(), keys, keys[1:], strict=False)
    )
    body = (
        Run("see"),
        Transfer(("see/seen",), Side.EDGE),
        Run("think"),
        Transfer(("think/plan",), Side.CLOUD),
        Run("act"),
    )
    schedule = (Loop(trips, body),) if trips > 1 else body
    return Plan(
        "echo",
        "edge",
        "cloud",
        Link(1e9, 1e9),
        (specs["image"],),
        {"action": "act/action"},
        tuple(specs.values()),
        parts,
        (Variant("chosen", schedule, _FREE),),
        (),
        Certificate("latency", 0.0, 0.0, "nothing was searched"),
    )


@contextmanager
def cloud(up: int, down: int, milliseconds: float, tls: str = "") -> Iterator[tuple[str, int, int]]:
    """The cloud in a process of its own: host, port and process id."""
    words = [sys.executable, __file__, str(up), str(down), str(milliseconds), tls]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        yield "127.0.0.1", int(json.loads(child.stdout.readline())["port"]), child.pid


def main() -> None:
    """Serve."""
    up, down, milliseconds, tls = sys.argv[1:5]
    engine = Sleeper("think/plan", int(down), float(milliseconds) * 1e-3)
    server = Server(
        [ready(echo_plan(int(up), int(down)), DIGEST, {"think": engine})],
        tls=cloud_context(Path(tls)) if tls else None,
    )
    sys.stdout.write(json.dumps({"port": server.address[1]}) + "\n")
    sys.stdout.flush()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    sys.stdin.read()
    server.shutdown()
    thread.join()


if __name__ == "__main__":
    main()
