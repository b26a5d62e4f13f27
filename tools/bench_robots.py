"""Many robots at a control rate on one server: errors, each robot's p99, the server's memory.

Each robot is a thread that steps at its rate; they share one process, so that its scheduling is in
the figures. Halfway one more robot, a process of its own, begins to flood the server with steps
that it does not wait for; `--quiet` leaves it out, to compare.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from echo import DIGEST, Sleeper, cloud, echo_plan

from vlacut.errors import VlacutError
from vlacut.runtime.link import Endpoint, dial
from vlacut.runtime.report import Source
from vlacut.runtime.session import EdgeSession
from vlacut.runtime.wire import TENSORS, TOKEN_BYTES, Header

UP, DOWN = 8_192, 1_400
Steps = list[tuple[float, float, Source]]


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--robots", type=int, default=32)
    parser.add_argument("--rate", type=float, default=10.0, help="steps a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--cloud-ms", type=float, default=1.0, help="of a step")
    parser.add_argument("--quiet", action="store_true", help="without the robot that floods")
    parser.add_argument("--flood", type=int, metavar="PORT", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.flood:
        flood(("127.0.0.1", chosen.flood), chosen.seconds)
        return
    with cloud(UP, DOWN, chosen.cloud_ms) as (host, port, pid):
        begin = time.monotonic() + 1.0
        middle, end = begin + chosen.seconds / 2, begin + chosen.seconds
        steps: list[Steps] = [[] for _ in range(chosen.robots)]
        errors: list[str] = []
        threads = [
            threading.Thread(
                target=robot,
                args=((host, port), chosen.rate, begin + index / 320, end, steps[index], errors),
            )
            for index in range(chosen.robots)
        ]
        for thread in threads:
            thread.start()
        time.sleep(max(0.0, begin + 2 - time.monotonic()))
        memory = [resident_mb(pid)]
        time.sleep(max(0.0, middle - time.monotonic()))
        if not chosen.quiet:
            words = [sys.executable, __file__, "--flood", str(port)]
            subprocess.run([*words, "--seconds", str(end - time.monotonic())], check=True)
        for thread in threads:
            thread.join()
        memory.append(resident_mb(pid))
    show(steps, errors, middle)
    print(f"server's memory: {memory[0]:.1f} MB after 2 s, {memory[1]:.1f} MB at the end")


def robot(
    address: tuple[str, int], rate: float, begin: float, end: float, steps: Steps, errors: list[str]
) -> None:
    """Step at a rate, and note when and how long."""
    engines = {"see": Sleeper("see/seen", UP, 0), "act": Sleeper("act/action", DOWN, 0)}
    observation = {"image": np.zeros(UP, np.uint8)}
    try:
        with EdgeSession(echo_plan(UP, DOWN), DIGEST, engines, address, deadline=1.0) as policy:
            due = begin
            while due < end:
                time.sleep(max(0.0, due - time.monotonic()))
                policy.step(observation)
                steps.append((due, policy.last.latency_s, policy.last.source))
                due += 1 / rate
    except VlacutError as error:
        errors.append(str(error))


def flood(address: tuple[str, int], seconds: float) -> None:
    """Send the first frame of one step after the other, as fast as the connection takes them."""
    plan = echo_plan(UP, DOWN)
    connection = dial(
        Endpoint(address, DIGEST, bytes(TOKEN_BYTES), 0.0, 10.0, None), plan
    ).connection
    data, end = np.zeros(UP, np.uint8), time.monotonic() + seconds
    for step in itertools.count():
        connection.send(Header(TENSORS, 0, 1, 0, step, data.nbytes), [data])
        connection.superseded(step)  # reads what came back
        if time.monotonic() > end:
            break
    connection.close()


def show(steps: Sequence[Steps], errors: Sequence[str], middle: float) -> None:
    """Print p99 by robot, before and after the middle."""
    print(f"{sum(map(len, steps))} steps of {len(steps)} robots, {len(errors)} errors", *errors[:3])
    fallen = sum(source is not Source.CHOSEN for each in steps for _, _, source in each)
    print(f"steps that fell back: {fallen}")
    for name, late in (("first half", False), ("second half", True)):
        p99 = [
            float(np.quantile([took for at, took, _ in each if (at >= middle) is late], 0.99))
            for each in steps
        ]
        print(
            f"{name:>12}: p99 of a robot: least {min(p99) * 1e3:.2f} ms, median "
            f"{np.median(p99) * 1e3:.2f} ms, most {max(p99) * 1e3:.2f} ms"
        )


def resident_mb(pid: int) -> float:
    """Memory of a process (Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


if __name__ == "__main__":
    main()
