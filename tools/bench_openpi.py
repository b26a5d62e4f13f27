"""Round trips of openpi's own client: by vlacut's edge half, and to openpi's own server.

    python tools/bench_openpi.py [--rounds 100] [--engines-ms 0,10,35,70] [--link 20Mbit/s,20ms]
                                 [--codec jpeg90]

An observation is two cameras of 224 x 224 and a state; the answer a chunk of 16 x 8. The engine is
the same for both: a wait, as a GPU is to this processor. vlacut's way has one hop more: client ->
edge half -> cloud half, where openpi's is client -> server with the engine. They take turns in one
run. Over `--link`, emulated, the pictures cross as openpi's client sends them, or by `--codec`
between the halves. Medians, how many times as long openpi's way takes, and how many it could be at
most: no client's answer is there before the engine has run and the link was crossed twice. Then
where vlacut's time went beside those two: in codecs, in bytes on the link, and in all else.

Needs `pip install 'vlacut[cli,openpi]'`, and `pip install --no-deps openpi-client openpi-server
typing_extensions`.
"""

from __future__ import annotations

import argparse
import math
import time
from contextlib import ExitStack

import numpy as np
from openpi_ways import ACTION, observation, server

from vlacut.emulation import shape_of
from vlacut.emulation.process import EmulatedLink
from vlacut.hardware import Link
from vlacut.hardware.link import parse_link

WARM_UP = 5
OWN = ("codec_ms", "bytes_up")  # of the `server_timing` of vlacut's answers


def measure(engine_ms: float, rounds: int, link: Link | None, codec: str) -> dict[str, float]:
    """Medians of a round trip in milliseconds, by way, and of what vlacut's says of its own."""
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
        took: dict[str, list[float]] = {name: [] for name in (*clients, *OWN)}
        seen = observation()
        for _ in range(rounds + WARM_UP):
            for name, client in clients.items():
                began = time.perf_counter()
                made = client.infer(seen)
                took[name].append(time.perf_counter() - began)
                assert made["actions"].shape == ACTION.shape
                if name == "vlacut":
                    for one in OWN:
                        took[one].append(made["server_timing"][one] * 1e-3)
    return {name: float(np.median(each[WARM_UP:])) * 1e3 for name, each in took.items()}


def main() -> None:
    """Measure both, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--engines-ms", default="0,10,35,70")
    parser.add_argument("--link", default="20Mbit/s,20ms")
    parser.add_argument("--codec", default="jpeg90")
    asked = parser.parse_args()
    link = parse_link(asked.link)
    print("engine ms, link: vlacut ms, openpi ms, openpi / vlacut, at most; codecs, bytes, rest ms")
    for word in asked.engines_ms.split(","):
        engine_ms = float(word)
        for name, over in (("loopback", None), (asked.link, link)):
            found = measure(engine_ms, asked.rounds, over, asked.codec)
            crossed = engine_ms + (link.rtt * 1e3 if over else 0.0)
            most = found["openpi"] / crossed if crossed else math.inf
            sent_ms = found["bytes_up"] / link.up * 1e3 if over else 0.0
            rest = found["vlacut"] - crossed - found["codec_ms"] - sent_ms
            print(
                f"{engine_ms:g}, {name}: {found['vlacut']:.1f}, {found['openpi']:.1f}, "
                f"{found['openpi'] / found['vlacut']:.2f}, {most:.2f}; "
                f"{found['codec_ms']:.1f}, {sent_ms:.1f}, {rest:.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
