"""Robots on servers that Ray runs, on this machine: what it costs, and what happens when parts die.

    .venv/bin/python tools/fleet/bench_cluster.py [--robots 32] [--servers 4] [--seconds 60]

A small policy whose cut has work on both sides, with a variant on the edge alone, is computed for
real; each robot has an observation of its own, and every action is compared to the bit with what
the robot alone makes of it. All robots ask the first server first. Then, in this order:

- a step with the cluster, beside one with as many servers started by hand, in turns of 2 s
- robots by server
- a server is killed; the register is killed; a server is drained, and another started for it
- sessions are opened and ended, so many a minute; a bundle is asked for that nobody has
- memory and descriptors of the servers, over a while

Late is a step that took longer than its deadline, or had no action by it.
"""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from driven import Robot, driven, since, told
from processes import begun_by_us, holds, listens_at, served
from rich.console import Console
from rich.table import Table

import vlacut
from vlacut.api.cluster.on_ray import RayCluster
from vlacut.api.cluster.settings import RaySettings
from vlacut.bundle.reading import read_bundle
from vlacut.errors import WireError
from vlacut.runtime.edge.entries import Entries
from vlacut.runtime.edge.link import Endpoint, Line, dial
from vlacut.runtime.edge.report import Source
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.wire.protocol.greeting import TOKEN_BYTES
from vlacut.runtime.wire.sockets import parse_addresses

TURN_S, SETTLE_S = 2.0, 0.5
WATCH_S = 15.0


def main() -> None:
    """Compile, start, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--robots", type=int, default=32)
    parser.add_argument("--servers", type=int, default=4)
    parser.add_argument("--rate", type=float, default=10.0, help="steps per second of a robot")
    parser.add_argument("--deadline", type=float, default=0.5, help="seconds")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the comparison")
    parser.add_argument("--connects", type=float, default=1000.0, help="a minute, for a minute")
    parser.add_argument("--soak", type=float, default=10.0, help="minutes")
    parser.add_argument("--port", type=int, default=17200)
    chosen = parser.parse_args()
    logging.getLogger("vlacut").setLevel(logging.ERROR)  # what robots fall back to is counted here
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "policy.vlacut"
        vlacut.compile(
            "vit-mlp:tiny",
            edge="jetson-agx-orin",
            cloud="a100",
            link="50MB/s,0.1ms",
            pool="portfolio:1MB",
            bandwidth="1MB/s-1GB/s",
            out=bundle,
        )
        settings = RaySettings(
            (str(bundle),),
            chosen.servers,
            gpus=0,
            cpus=0.1,
            host="127.0.0.1",
            port=chosen.port,
        )
        with RayCluster(settings) as cluster:
            measure(chosen, bundle, cluster)


def measure(chosen: argparse.Namespace, bundle: Path, cluster: RayCluster) -> None:
    """All of it, a row at a time."""
    console = Console(width=200)
    table = Table("what", "figure", box=None)

    def row(what: str, figure: str) -> None:
        console.print(f"{what}: {figure}", markup=False, highlight=False)
        table.add_row(what, figure)

    addresses = [one.address for one in cluster.ready(600)]
    time.sleep(2.0)  # they have heard of each other
    asked = (chosen.robots, chosen.rate, chosen.deadline)
    entry = ",".join(addresses)
    with served(bundle, count=chosen.servers) as plain:
        by_hand = [one["address"] for one in plain]
        with driven(bundle, {"ray": [entry], "by hand": by_hand}, *asked) as robots:
            row("a step with Ray's servers beside one by hand", compared(robots, chosen.seconds))
    time.sleep(3.0)  # all servers know that they are empty
    with driven(bundle, {"ray": [entry]}, *asked) as robots:
        spread = sorted(one.robots for one in cluster.standings())
        row("robots by server", str(spread))
        row("a server is killed", killed_server(robots, cluster, addresses, chosen.deadline))
        row("the register is killed", killed_register(robots, bundle, entry, chosen.deadline))
        row("a server is drained", drained(robots, cluster, chosen.deadline))
        row("sessions opened", opened(robots, bundle, entry, chosen))
        row("a bundle that nobody has", refused(bundle, entry))
        row("memory and descriptors", soaked(robots, cluster, chosen.soak, chosen.deadline))
    console.print(table)


def compared(robots: list[Robot], seconds: float) -> str:
    """Medians of steps by either, in turns."""
    begin, took = time.monotonic(), dict[str, list[float]]()
    while time.monotonic() < begin + seconds:
        for name in ("ray", "by hand"):
            for robot in robots:
                robot.use = name
            turn = time.monotonic()
            time.sleep(TURN_S)
            steps = since(robots, turn + SETTLE_S)
            took.setdefault(name, []).extend(step.took for step in steps if step.via == name)
    ours, theirs = (np.array(took[name]) * 1e3 for name in ("ray", "by hand"))
    ratio = np.median(ours) / np.median(theirs)
    return (
        f"medians {np.median(ours):.3f} and {np.median(theirs):.3f} ms of {len(ours)} and "
        f"{len(theirs)} steps, ratio {ratio:.3f}"
    )


def killed_server(
    robots: list[Robot], cluster: RayCluster, addresses: list[str], deadline: float
) -> str:
    """Kill the first one; how long its robots made steps alone, and until it is there again."""
    first = next(one for one in cluster.standings() if one.address in addresses)
    begin = time.monotonic()
    os.kill(listens_at(first.address), signal.SIGKILL)
    back = until(lambda: len(cluster.standings()) == len(addresses))
    time.sleep(max(0.0, begin + WATCH_S - time.monotonic()))
    away = max(_first_cut_step(robot, begin) for robot in robots)
    how = told(since(robots, begin), deadline)
    return f"of {first.robots} robots; cut again after {away:.2f} s; it after {back:.1f} s; {how}"


def _first_cut_step(robot: Robot, begin: float) -> float:
    """Seconds until a robot that had to make steps alone had the end of one with the cloud."""
    steps = [step for step in robot.steps if step.due >= begin]
    alone = [index for index, step in enumerate(steps) if step.source is not Source.CHOSEN]
    after = steps[alone[-1] + 1 :] if alone else []
    return after[0].due + after[0].took - begin if after else 0.0 if not alone else float("inf")


def killed_register(robots: list[Robot], bundle: Path, entry: str, deadline: float) -> str:
    """Kill it; what a robot that comes meanwhile gets, and until it is there again."""
    (pid,) = begun_by_us("ray::Register")
    begin = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    with vlacut.connect(bundle, entry, deadline=deadline) as late:
        late.step(late.bundle.golden("observation"))
        new = f"a new robot had its first step after {time.monotonic() - begin:.2f} s"
    back = until(lambda: begun_by_us("ray::Register") not in ([], [pid]))
    time.sleep(max(0.0, begin + WATCH_S - time.monotonic()))
    return f"{new}; it is back after {back:.1f} s; {told(since(robots, begin), deadline)}"


def drained(robots: list[Robot], cluster: RayCluster, deadline: float) -> str:
    """Drain one; then let the cluster start another."""
    fullest = max(cluster.standings(), key=lambda one: one.robots)
    begin = time.monotonic()
    cluster.drain(fullest.address)
    time.sleep(WATCH_S)
    how = told(since(robots, begin, begin + WATCH_S), deadline)
    count = len(cluster.standings())
    cluster.tend()
    until(lambda: len(cluster.standings()) > count)
    return f"of {fullest.robots} robots; {how}"


def opened(robots: list[Robot], bundle: Path, entry: str, chosen: argparse.Namespace) -> str:
    """Open sessions at a rate for a minute, and end each at once."""
    opened_bundle = read_bundle(bundle)
    plan, digest = opened_bundle.plan, opened_bundle.digest
    begin, took, failed = time.monotonic(), list[float](), list[str]()
    count = round(chosen.connects)
    for index in range(count):
        time.sleep(max(0.0, begin + index * 60 / count - time.monotonic()))
        start = time.monotonic()
        token = secrets.token_bytes(TOKEN_BYTES)
        endpoint = Endpoint(("", 0), digest, token, chosen.deadline, 10.0, None)

        def at(place: tuple[str, int], stay: bool, endpoint: Endpoint = endpoint) -> Line:
            return dial(replace(endpoint, address=place, stay=stay), plan)

        try:
            Entries(parse_addresses(entry), at).dial().connection.close()
        except WireError as error:
            failed.append(str(error))
        took.append(time.monotonic() - start)
    spent = time.monotonic() - begin
    how = told(since(robots, begin), chosen.deadline)
    return (
        f"{count} in {spent:.0f} s, {len(failed)} failed {failed[:1]}; median "
        f"{np.median(took) * 1e3:.1f}, p99 {np.quantile(took, 0.99) * 1e3:.1f} ms; {how}"
    )


def refused(bundle: Path, entry: str) -> str:
    """What a robot is told whose bundle nobody has."""
    opened_bundle = read_bundle(bundle)
    try:
        EdgeSession(opened_bundle.plan, bytes(32), {}, parse_addresses(entry)[0])
    except WireError as error:
        return f"{type(error).__name__}: {error}"
    return "it was let in"


def soaked(robots: list[Robot], cluster: RayCluster, minutes: float, deadline: float) -> str:
    """What the servers hold at first, in the middle and at the end, by server."""
    pids = [listens_at(one.address) for one in cluster.standings()]
    begin, seen = time.monotonic(), []
    for part in range(3):
        time.sleep(max(0.0, begin + minutes * 60 * part / 2 - time.monotonic()))
        held = [holds(pid) for pid in pids]
        memory = " ".join(f"{megabytes:.1f}" for megabytes, _ in held)
        seen.append(f"{memory} MB, {' '.join(str(count) for _, count in held)} open")
    return f"over {minutes:g} min {' -> '.join(seen)}; {told(since(robots, begin), deadline)}"


def until(what: Callable[[], bool], seconds: float = 300.0) -> float:
    """Seconds until it is so; infinite if not in time."""
    begin = time.monotonic()
    while not what():
        if time.monotonic() > begin + seconds:
            return float("inf")
        time.sleep(0.1)
    return time.monotonic() - begin


if __name__ == "__main__":
    main()
