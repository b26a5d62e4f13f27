"""What a pack does once it is unpacked: serve its cloud half, or drive its edge half.

    python robot.vlacut --cloud 10.0.0.5:7000 --tls robot --deadline 100ms
    python cloud.vlacut --host 0.0.0.0 --tls cloud

It needs numpy and the back end's executor alone, and so has fewer options than the command line.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from vlacut.api.connecting import Policy, connect
from vlacut.api.serving import serve
from vlacut.errors import VlacutError, one_line
from vlacut.hardware import Side, parse_bytes
from vlacut.hardware.link import parse_seconds
from vlacut.integrations.endpoint import open_endpoint, read_endpoint, url_of
from vlacut.runtime.wire.sockets import written
from vlacut.tensor.numerics import largest_difference
from vlacut.tensor.observations import read_observation


def start(bundle: Path, side: str, words: Sequence[str]) -> int:
    """Run a half by the words of a command; the exit status.

    Options that do not parse end the process, as argparse does it.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    edge = Side(side) is Side.EDGE
    asked = (_edge_words() if edge else _cloud_words()).parse_args(words)
    try:
        (_drive if edge else _serve)(bundle, asked)
    except VlacutError as error:
        sys.stderr.write(f"vlacut: {one_line(error)}\n")
        return 2
    except KeyboardInterrupt:
        return 1
    return 0


def _edge_words() -> argparse.ArgumentParser:
    words = _common("Drive the edge side of the bundle in this pack.")
    words.add_argument("--cloud", default="", help="HOST:PORT of the cloud's half")
    words.add_argument("--deadline", help="a step returns by then, e.g. 100ms")
    words.add_argument("--hedge", action="store_true", help="meet it with the edge alone, beside")
    words.add_argument("--timeout", type=float, default=10.0, help="seconds to wait for the cloud")
    words.add_argument("--selector", default="chosen", help="how the variant is chosen")
    words.add_argument("--steps", type=int, default=1, help="on the golden observation")
    served = "be the policy server of openpi's clients, or LeRobot's (lerobot://)"
    words.add_argument("--serve", metavar="openpi://HOST:PORT", help=served)
    words.add_argument("--map", action="append", default=[], metavar="KEY=[INPUT[:LOW..HIGH]]")
    words.add_argument("--metadata", type=Path, help="a JSON object that clients are told first")
    words.add_argument("--input", type=Path, help="an .npz: what clients do not send")
    return words


def _cloud_words() -> argparse.ArgumentParser:
    words = _common("Serve the cloud side of the bundle in this pack.")
    words.add_argument("--host", default="127.0.0.1", help="address to listen on")
    words.add_argument("--port", type=int, default=7000, help="0: a free one")
    words.add_argument("--robots", type=int, default=64, help="most at a time")
    words.add_argument("--memory", help="of this machine, e.g. 40GB")
    return words


def _common(what: str) -> argparse.ArgumentParser:
    more = "--unpack FOLDER, alone: write the half and the wheel of its runtime there."
    words = argparse.ArgumentParser(prog="python PACK", description=what, epilog=more)
    words.add_argument("--tls", type=Path, help="this machine's folder of vlacut keys")
    words.add_argument("--insecure", action="store_true", help="off loopback without --tls")
    words.add_argument("--trusted", type=Path, help="public.pem of who must have signed it")
    words.add_argument("--provider", default="", help="cuda, tensorrt, cpu")
    return words


def _drive(bundle: Path, asked: argparse.Namespace) -> None:
    endpoint = read_endpoint(asked.serve, asked.map, asked.metadata)
    session = connect(
        bundle,
        asked.cloud or None,
        timeout=asked.timeout,
        deadline=parse_seconds(asked.deadline) if asked.deadline else None,
        hedge=asked.hedge,
        tls=asked.tls,
        insecure=asked.insecure,
        trusted=asked.trusted,
        selector=asked.selector,
        in_place=True,
        provider=asked.provider,
    )
    with session:
        if endpoint is None:
            _try(session, asked.steps)
            return
        fixed = read_observation(asked.input) if asked.input else {}
        server = open_endpoint(endpoint, session, fixed=fixed, insecure=asked.insecure)
        sys.stdout.write(f"serving {session.plan.program} on {url_of(endpoint, server)}\n")
        sys.stdout.flush()
        try:
            server.serve_forever()
        finally:
            server.shutdown()


def _try(session: Policy, steps: int) -> None:
    """Steps on the golden observation, and how far the action is from the golden one."""
    observation, golden = (session.bundle.golden(which) for which in ("observation", "action"))
    for number in range(steps):
        action = session.step(observation)
        sys.stdout.write(f"{session.last.summary()}\n")
        if number == 0:
            off = largest_difference(action, golden)
            sys.stdout.write(f"largest difference of the action from the uncut model's: {off:g}\n")


def _serve(bundle: Path, asked: argparse.Namespace) -> None:
    server = serve(
        bundle,
        asked.host,
        asked.port,
        tls=asked.tls,
        insecure=asked.insecure,
        trusted=asked.trusted,
        most_robots=asked.robots,
        memory=parse_bytes(asked.memory) if asked.memory else None,
        in_place=True,
        provider=asked.provider,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.shutdown())
    sys.stdout.write(f"serving on {written(*server.address)}\n")
    sys.stdout.flush()
    server.serve_forever()
