"""Versions of a policy, one after the other, on a server and its robots while they step.

    .venv/bin/python tools/fleet/bench_rollout.py [--robots 16] [--rate 10] [--versions 3]

A server follows a folder. Each version is put there with `vlacut rollout --retire`, and robots are
told to take it; each does so between two steps, by itself. Every action is compared to the bit with
what its version makes of that robot's observation, and a tick is missed if its step took longer
than its deadline, had no action, or an old one. What the server holds is memory of its own.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import torch
from driven import Robot, copied, scaled, since, told
from processes import holds, served
from rich.console import Console
from rich.table import Table
from torch import nn

import vlacut
from vlacut.api.cluster.asking import fetch_status
from vlacut.api.rolling import GONE_BACK, REFUSED, TAKEN
from vlacut.bundle.reading import read_bundle
from vlacut.runtime.wire.sockets import parse_address

LAYERS = 6
WATCH_S = 5.0
MOST_S = 300.0


def main() -> None:
    """Compile, start, roll out, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--robots", type=int, default=16)
    parser.add_argument("--rate", type=float, default=10.0, help="steps per second of a robot")
    parser.add_argument("--deadline", type=float, default=0.5, help="seconds")
    parser.add_argument("--versions", type=int, default=3, help="one after the other")
    parser.add_argument("--width", type=int, default=1024, help="of each of six layers")
    chosen = parser.parse_args()
    logging.getLogger("vlacut").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        root = Path(folder)
        paths = [
            compiled(root / f"v{number}", chosen.width) for number in range(1, chosen.versions + 1)
        ]
        (root / "served").mkdir()
        rolled_out(paths[0], root / "served")
        (server,) = stack.enter_context(served(root / "served", "--watch", "--metrics", "0"))
        robots = driven_by(stack, paths, server["address"], chosen)
        run(robots, paths, server, root / "served", chosen.deadline)


def compiled(path: Path, width: int) -> Path:
    """A version: layers of random weights, all of them in the cloud."""
    layers = [nn.Linear(width, width) for _ in range(LAYERS)]
    vlacut.compile(
        nn.Sequential(*layers).eval(),
        (torch.randn(1, width),),
        edge="jetson-agx-orin",
        cloud="a100",
        link="10GB/s,0us",
        pin=["*=cloud"],
        out=path,
    )
    return path


def rolled_out(path: Path, folder: Path, *words: str) -> None:
    """Put a version into the folder."""
    command = [sys.executable, "-m", "vlacut", "rollout", str(path), str(folder), *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def driven_by(
    stack: ExitStack, paths: list[Path], address: str, chosen: argparse.Namespace
) -> list[Robot]:
    """Robots of the first version, which know what each version makes of their observations."""
    alone = [stack.enter_context(vlacut.connect(path, serving(stack, path))) for path in paths]
    golden = alone[0].bundle.golden("observation")
    robots = []
    for index in range(chosen.robots):
        seen = scaled(golden, 1 + index / chosen.robots)
        right = {one.bundle.digest: copied(one.step(seen)) for one in alone}
        policy = vlacut.connect(paths[0], address, deadline=chosen.deadline)
        rolling = stack.enter_context(vlacut.Rolling(policy))
        phase = index / chosen.rate / chosen.robots
        robots.append(Robot({"": rolling}, seen, right, 1 / chosen.rate, phase))
    for robot in robots:
        robot.start()
        stack.callback(robot.end)
    return robots


def serving(stack: ExitStack, path: Path) -> str:
    """A server of one version, to ask what is right."""
    (server,) = stack.enter_context(served(path))
    return str(server["address"])


def run(
    robots: list[Robot], paths: list[Path], server: dict[str, str], folder: Path, deadline: float
) -> None:
    """A row for each version; the last one, for the end."""
    names = {read_bundle(path).digest: path.name for path in paths}
    table = Table("version", "what robots had", "by version", "server, MB", "it has", box=None)

    def row(name: str, begin: float) -> None:
        steps = since(robots, begin)
        by = Counter(names[step.digest] for step in steps)
        found = fetch_status(*parse_address(server["metrics"]))
        has = ", ".join(f"{one['name']} ({one['robots']} robots)" for one in found["bundles"])
        memory = f"{holds(int(server['pid']))[0]:.0f}"
        table.add_row(name, told(steps, deadline), str(dict(by)), memory, has)

    begin = time.monotonic()
    time.sleep(WATCH_S)
    row(paths[0].name, begin)
    for old, new in pairwise(paths):
        begin = time.monotonic()
        rolled_out(new, folder, "--retire", old.name)
        take(robots, new)
        time.sleep(WATCH_S)  # what they left is given up
        row(f"{old.name} to {new.name}", begin)
    Console(width=160).print(table)


def take(robots: list[Robot], path: Path) -> None:
    """Tell all robots to take a version, again where the server did not have it yet."""
    end = time.monotonic() + MOST_S
    left = {robot: robot.sessions[""] for robot in robots}
    for rolling in left.values():
        assert isinstance(rolling, vlacut.Rolling)
        rolling.swap(path)
    while left and time.monotonic() < end:
        time.sleep(0.2)
        for robot, rolling in list(left.items()):
            assert isinstance(rolling, vlacut.Rolling)
            if rolling.swapped.state == TAKEN:
                del left[robot]
            elif rolling.swapped.state in (REFUSED, GONE_BACK):
                rolling.swap(path)
    if left:
        raise SystemExit(f"{len(left)} robots did not take {path.name} in {MOST_S:g} s")


if __name__ == "__main__":
    main()
