"""What a step costs beyond its engines: the robot and the cloud on loopback, engines that sleep.

A third of a model's time is on the edge before the cloud, a third in the cloud, a third on the edge
after it; 102 kB go up and 1.4 kB down. The models take turns, step by step. The overhead is the
step less what its engines took, as each side measured them, over the latter.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack

import numpy as np
from echo import DIGEST, Sleeper, cloud, echo_plan

from vlacut.runtime.session import EdgeSession

MODELS_MS = (5, 20, 100)
AIMS = (0.02, 0.01, 0.004)
UP, DOWN = 102_400, 1_400


def main() -> None:
    """Measure, and print medians with the aims."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    rounds = parser.parse_args().rounds
    observation = {"image": np.zeros(UP, np.uint8)}
    found: list[list[tuple[float, float]]] = [[] for _ in MODELS_MS]
    with ExitStack() as stack:
        policies = [stack.enter_context(session(stack, each)) for each in MODELS_MS]
        for _ in range(rounds):
            for policy, times in zip(policies, found, strict=True):
                policy.step(observation)
                report = policy.last
                engines = sum(report.edge_s.values()) + sum(report.cloud_s.values())
                times.append((report.latency_s - engines, engines))
    print("model ms   engines ms   beyond them us   median overhead   p90      aim")
    for model, aim, times in zip(MODELS_MS, AIMS, found, strict=True):
        beyond, engines = np.array(times[5:]).T
        shares = beyond / engines
        print(
            f"{model:>8}   {np.median(engines) * 1e3:>10.2f}   {np.median(beyond) * 1e6:>14.0f}"
            f"   {np.median(shares):>15.2%}   {np.quantile(shares, 0.9):>6.2%}   {aim:.1%}"
        )


def session(stack: ExitStack, milliseconds: float) -> EdgeSession:
    """A robot of a model that takes so long, with a cloud of its own."""
    third = milliseconds / 3
    host, port, _ = stack.enter_context(cloud(UP, DOWN, third))
    engines = {
        "see": Sleeper("see/seen", UP, third * 1e-3),
        "act": Sleeper("act/action", DOWN, third * 1e-3),
    }
    return EdgeSession(echo_plan(UP, DOWN), DIGEST, engines, (host, port))


if __name__ == "__main__":
    main()
