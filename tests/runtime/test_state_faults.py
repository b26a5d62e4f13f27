"""Faults while a program remembers: every action is the reference model's, by the rule reported."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pytest
from support.cutting import Reference
from support.deployments import DIGEST, OrtEngine, initial_of, pool_deployment, served
from support.programs import observation, random_stateful
from support.proxy import DOWN, UP, Fault, Proxy

from vlacut.hardware import Side
from vlacut.ir.program import Program
from vlacut.plans.plan import Plan
from vlacut.plans.state import StateRule
from vlacut.runtime.edge.report import Source
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.network.selectors import AtRandom

KINDS = ("cut", "reset", "stall", "delay", "duplicate", "corrupt", "drop", "overtake")
DEADLINE_S = 0.1
OBSERVATIONS = 8


@dataclass(frozen=True)
class Deployment:
    program: Program
    plan: Plan
    engines: dict[str, OrtEngine]
    given: dict[str, np.ndarray]


def remembering(alone: bool) -> Deployment:
    """One that crosses both ways, reads state on both sides, and moves some when it switches."""
    for seed in range(1000):
        program = random_stateful(seed)
        plan, engines = pool_deployment(program, seed, variants=3, alone=alone)
        mixed = plan.variants[:2]
        reads = [use.reads for use in plan.state_uses[:2]]
        if (
            all(one.price.bytes_up and one.price.bytes_down for one in mixed)
            and any(read[Side.EDGE] for read in reads)
            and any(read[Side.CLOUD] for read in reads)
            and any(plan.move_bytes(0, 1))
            and len(program.state) > 1
        ):
            return Deployment(program, plan, engines, initial_of(program))
    raise AssertionError("no such deployment")


class Robot:
    """Steps a session, and holds every action to the reference model by the rule reported."""

    def __init__(self, deployment: Deployment, policy: EdgeSession) -> None:
        self.policy = policy
        self.sources: Counter[str] = Counter()
        self._observed = [observation(deployment.program, one) for one in range(OBSERVATIONS)]
        self._reference = Reference(deployment.program)
        self._numbers = random.Random(3)
        self._last: dict[str, np.ndarray] = {}

    def reset(self) -> None:
        self.policy.reset()

    def step(self) -> None:
        observed = self._observed[self._numbers.randrange(OBSERVATIONS)]
        action = self.policy.step(observed)
        report = self.policy.last
        if report.source is not Source.STALE:
            if report.state is StateRule.RESET:
                self._reference.reset()
            self._last = self._reference.step(observed)
        for name, array in self._last.items():
            np.testing.assert_array_equal(action[name], array, err_msg=str(report))
        self.sources[report.source.value] += 1
        self.sources[report.state.value] += report.source is not Source.STALE
        self.sources["again"] += report.again


def at_random(seed: int, size: dict[str, int]) -> Iterator[Fault | None]:
    """Faults of all kinds, anywhere in a step's bytes; None for a restarted cloud."""
    numbers = random.Random(seed)
    while True:
        direction = numbers.choice((UP, DOWN))
        fault = Fault(
            numbers.choice(KINDS),
            direction,
            numbers.randrange(size[direction]),
            seconds=numbers.choice((0.01, 0.05, 0.2)),
            count=numbers.choice((1, 8, 32, 100)),
        )
        yield None if numbers.random() < 0.05 else fault


def inject(count: int, seed: int, alone: bool = False, hedge: bool = False) -> Counter[str]:
    """Steps until so many faults have struck, or three times as many were tried."""
    deployment = remembering(alone)
    plan = deployment.plan
    numbers = random.Random(seed)
    options: dict[str, Any] = {"deadline": DEADLINE_S, "hedge": hedge, "checked": True}
    options["selector"] = AtRandom(2, seed)
    with ExitStack() as clouds, Proxy(("127.0.0.1", 9)) as proxy:

        def start() -> None:
            cloud = served(plan, deployment.engines, timeout=0.3, initial=deployment.given)
            proxy.target = clouds.enter_context(cloud).address

        start()
        with EdgeSession(
            *(plan, DIGEST, deployment.engines, proxy.address, 0.3),
            initial=deployment.given,
            **options,
        ) as policy:
            robot = Robot(deployment, policy)
            robot.step()
            passed = dict(proxy.passed)
            robot.step()
            size = {way: proxy.passed[way] - passed[way] for way in passed}
            restarts = 0
            for fault in islice(at_random(seed, size), 3 * count):
                if proxy.struck + restarts >= count:
                    break
                if fault is None:
                    restarts += 1
                    clouds.close()
                    start()
                    proxy.hang_up()
                else:
                    proxy.arm(fault)
                if numbers.random() < 0.1:
                    robot.reset()
                for _ in range(2):
                    began = time.monotonic()
                    robot.step()
                    if hedge:
                        time.sleep(max(0.0, DEADLINE_S + began - time.monotonic()))
            robot.sources["struck"] = proxy.struck + restarts
    return robot.sources


@pytest.mark.parametrize(("alone", "hedge"), [(False, False), (True, False), (True, True)])
def test_faults(alone: bool, hedge: bool) -> None:
    sources = inject(15, seed=5, alone=alone, hedge=hedge)
    assert sources["chosen"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(("alone", "hedge"), [(False, False), (True, False), (True, True)])
def test_a_thousand_faults(alone: bool, hedge: bool) -> None:
    sources = inject(1000, seed=6, alone=alone, hedge=hedge)
    assert sources["struck"] >= 1000
    assert sources["kept"] > 100
    assert sources["recomputed"] + sources["resent"] > 5
