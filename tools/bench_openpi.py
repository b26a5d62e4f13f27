"""Round trips of openpi's own client: by vlacut's edge half, and to openpi's own server.

    python tools/bench_openpi.py [--rounds 100] [--engines-ms 0,10,35,70] [--link 20Mbit/s,20ms]
                                 [--codec jpeg90]

An observation is two cameras of 224 x 224 and a state; the answer a chunk of 16 x 8. The engine is
the same for both: a wait, as a GPU is to this processor. vlacut's way has one hop more: client ->
edge half -> cloud half, where openpi's is client -> server with the engine. They take turns in one
run. Over `--link`, emulated, the pictures cross as openpi's client sends them, or by `--codec`
between the halves. Medians, how many times as long openpi's way takes, and how many it could be at
most: no client's answer is there before the engine has run and the link was crossed twice.

Needs `pip install 'vlacut[cli,openpi]'`, and `pip install --no-deps openpi-client openpi-server
typing_extensions`. Run by path with `--be` it is one of the servers.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from echo import _FREE, DIGEST

from vlacut.emulation import shape_of
from vlacut.emulation.process import EmulatedLink
from vlacut.hardware import Link, Side
from vlacut.hardware.link import parse_link
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
WARM_UP = 5


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
    words = [sys.executable, __file__, "--be", what, "--engines-ms", str(engine_ms)]
    words += ["--cloud", cloud, "--codec", coded]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            yield int(json.loads(child.stdout.readline()))
        finally:
            child.kill()


def measure(engine_ms: float, rounds: int, link: Link | None, codec: str) -> dict[str, float]:
    """Medians of a round trip in milliseconds, by way."""
    from openpi_client.websocket_client_policy import (
        WebsocketClientPolicy,
    )  # not in vlacut's extras

    with ExitStack() as stack:

        def over(port: int) -> tuple[str, int]:
            if link is None:
                return "127.0.0.1", port
            there = EmulatedLink(("127.0.0.1", port), shape_of(link))
            return stack.enter_context(there).address

        coded = codec if link is not None else ""
        cloud = over(stack.enter_context(server("cloud", engine_ms, coded)))
        words = "{}:{}".format(*cloud)
        edge = stack.enter_context(server("edge", engine_ms, coded, words))
        theirs = over(stack.enter_context(server("openpi", engine_ms, "")))
        time.sleep(1.0)  # openpi's server says nowhere that it listens
        clients = {
            "vlacut": WebsocketClientPolicy("127.0.0.1", edge),
            "openpi": WebsocketClientPolicy(*theirs),
        }
        took: dict[str, list[float]] = {name: [] for name in clients}
        seen = observation()
        for _ in range(rounds + WARM_UP):
            for name, client in clients.items():
                began = time.perf_counter()
                made = client.infer(seen)
                took[name].append(time.perf_counter() - began)
                assert made["actions"].shape == ACTION.shape
    return {name: float(np.median(each[WARM_UP:])) * 1e3 for name, each in took.items()}


def main() -> None:
    """Measure both, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--engines-ms", default="0,10,35,70")
    parser.add_argument("--link", default="20Mbit/s,20ms")
    parser.add_argument("--be", default="", help=argparse.SUPPRESS)
    parser.add_argument("--cloud", default="", help=argparse.SUPPRESS)
    parser.add_argument("--codec", default="jpeg90")
    asked = parser.parse_args()
    if asked.be:
        be(asked.be, float(asked.engines_ms), asked.codec, asked.cloud)
        return
    link = parse_link(asked.link)
    print("engine ms, link: vlacut ms, openpi ms, openpi / vlacut, at most")
    for word in asked.engines_ms.split(","):
        engine_ms = float(word)
        for name, over in (("loopback", None), (asked.link, link)):
            found = measure(engine_ms, asked.rounds, over, asked.codec)
            crossed = engine_ms + (link.rtt * 1e3 if over else 0.0)
            most = found["openpi"] / crossed if crossed else math.inf
            print(
                f"{engine_ms:g}, {name}: {found['vlacut']:.1f}, {found['openpi']:.1f}, "
                f"{found['openpi'] / found['vlacut']:.2f}, {most:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
