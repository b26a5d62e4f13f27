"""Servers of the benchmark of openpi's wire: openpi's own, and the two halves of vlacut's.

    python tools/openpi_ways.py openpi|cloud|edge ENGINE_MS [CODEC [CLOUD_HOST:PORT]]

prints its port, and serves until its standard input ends. An observation is two cameras of 224 x
224 and a state; the answer a chunk of 16 x 8. The engine is the same for both, a wait.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from echo import _FREE, DIGEST

from vlacut.hardware import Link, Side
from vlacut.integrations.openpi.policy import OpenpiPolicy
from vlacut.integrations.openpi.server import OpenpiServer
from vlacut.plans.instructions import Run, Transfer
from vlacut.plans.plan import Part, Plan, Variant
from vlacut.pricing.coding import CodedCrossing
from vlacut.pricing.price import Certificate
from vlacut.runtime.cloud.deployment import ready
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.edge.session import EdgeSession
from vlacut.tensor import TensorSpec
from vlacut.tensor.codec import Codec

CAMERAS = ("observation/image", "observation/wrist_image")
SPECS = (
    *(TensorSpec(name, "uint8", (224, 224, 3)) for name in CAMERAS),
    TensorSpec("observation/state", "float32", (8,)),
)
ACTION = TensorSpec("think/action", "float32", (16, 8))


class Engine:
    """Waits, and gives zeros: as a cloud part, and as a policy of openpi's."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A chunk."""
        time.sleep(self._seconds)
        return {ACTION.name: np.zeros(ACTION.shape, np.float32)}

    def infer(self, observation: dict[str, Any]) -> dict[str, Any]:
        """A chunk, as openpi has it."""
        return {"actions": self.run(observation)[ACTION.name]}


def plan_of(coded: str) -> Plan:
    """The observation goes up, the cloud thinks, the chunk comes down."""
    keys = tuple(spec.name for spec in SPECS)
    codec = Codec(coded) if coded else Codec.NONE
    codecs = (codec, codec, Codec.NONE) if coded else ()
    think = Part(
        name="think",
        phase="think",
        side=Side.CLOUD,
        inputs=keys,
        outputs=(ACTION.name,),
        weights=(),
        weight_bytes=0,
        seconds=0.0,
        saves_s=0.0,
        label="think",
        digest="think",
    )
    raw = 224 * 224 * 3
    crossing = tuple(
        CodedCrossing(
            tensor=name,
            source=Side.EDGE,
            codec=codec,
            raw_bytes=raw,
            coded_bytes=raw // 8,
            edge_s=0.0,
            cloud_s=0.0,
        )
        for name in CAMERAS
        if coded
    )
    schedule = (
        Transfer(keys, Side.EDGE, codecs=codecs),
        Run("think"),
        Transfer((ACTION.name,), Side.CLOUD),
    )
    return Plan(
        "bench",
        "edge",
        "cloud",
        Link(1e9, 1e9),
        SPECS,
        {"action": ACTION.name},
        (*SPECS, ACTION),
        (think,),
        (Variant("chosen", schedule, _FREE, crossing),),
        (),
        Certificate("latency", 0.0, 0.0, "nothing was searched"),
    )


def observation() -> dict[str, np.ndarray]:
    """Pictures that are smooth, with the noise of a camera; they compress as such do."""
    numbers = np.random.default_rng(0)
    rows, columns = np.mgrid[0:224, 0:224] / 224.0
    found: dict[str, np.ndarray] = {"observation/state": np.zeros(8)}
    for place, name in enumerate(CAMERAS):
        waves = [np.sin(3 * rows * (k + 1) + 5 * columns + place) for k in range(3)]
        noisy = 127 + 90 * np.stack(waves, -1) + numbers.normal(0, 3, (224, 224, 3))
        found[name] = noisy.clip(0, 255).astype(np.uint8)
    return found


def be(what: str, milliseconds: float, coded: str, cloud: str) -> None:
    """Serve until standard input ends; prints the port."""
    engine = Engine(milliseconds * 1e-3)
    if what == "openpi":
        from openpi_server import WebsocketPolicyServer

        from vlacut.runtime.wire.sockets import listener

        with listener("127.0.0.1", 0) as free:
            port = free.getsockname()[1]
        server = WebsocketPolicyServer(engine, "127.0.0.1", port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    elif what == "cloud":
        made = Server([ready(plan_of(coded), DIGEST, {"think": engine})])
        threading.Thread(target=made.serve_forever, daemon=True).start()
        port = made.address[1]
    else:
        host, _, number = cloud.partition(":")
        session = EdgeSession(plan_of(coded), DIGEST, {}, (host, int(number)))
        edge = OpenpiServer(OpenpiPolicy(session))
        threading.Thread(target=edge.serve_forever, daemon=True).start()
        port = edge.address[1]
    print(json.dumps(port), flush=True)
    sys.stdin.read()


@contextmanager
def server(what: str, engine_ms: float, coded: str, cloud: str = "") -> Iterator[int]:
    """A server in a process of its own; its port."""
    words = [sys.executable, __file__, what, str(engine_ms), coded, cloud]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            yield int(json.loads(child.stdout.readline()))
        finally:
            child.kill()


if __name__ == "__main__":
    kind, wait_ms, *more = sys.argv[1:]
    be(kind, float(wait_ms), *[*more, "", ""][:2])
