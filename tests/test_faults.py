"""Faults injected between edge and cloud: no wrong action, no hang, no session left behind."""

from __future__ import annotations

import random
import time
from collections import Counter

import numpy as np
import pytest
from deployments import DIGEST, crossing_deployment, deployment_with_alone, served
from programs import observation
from proxy import DOWN, UP, Fault, Proxy, wait_until
from test_split import run_whole

from vlacut.errors import DeadlineMissed
from vlacut.runtime.report import Source
from vlacut.runtime.session import EdgeSession

KINDS = ("cut", "reset", "stall", "delay", "duplicate", "corrupt", "drop")
DEADLINE_S = 0.1
# An engine here takes well under a millisecond; the rest is the scheduler of a busy machine.
HANG_S = DEADLINE_S + 1.0


def inject(faults: int, seed: int, alone: bool, hedge: bool = False) -> Counter[str]:
    """Steps through a proxy, with a fault in each; sources of the actions, by how often."""
    numbers = random.Random(seed)
    program, plan, engines = deployment_with_alone() if alone else crossing_deployment()
    observed = [observation(program, number) for number in range(8)]
    expected = [run_whole(program, each) for each in observed]
    sources: Counter[str] = Counter()
    with served(plan, engines, timeout=0.3) as server:
        with (
            Proxy(server.address) as proxy,
            EdgeSession(
                plan, DIGEST, engines, proxy.address, 0.3, deadline=DEADLINE_S, hedge=hedge
            ) as policy,
        ):
            previous = policy.step(observed[0])
            size = dict(proxy.passed)
            while proxy.struck < faults:
                proxy.arm(draw(numbers, size))
                for _ in range(2):  # the fault, and what follows from it
                    which = numbers.randrange(len(observed))
                    began = time.monotonic()
                    action = policy.step(observed[which])
                    assert time.monotonic() - began < HANG_S
                    stale = policy.last.source is Source.STALE
                    right = previous if stale else expected[which]
                    for name, array in right.items():
                        np.testing.assert_array_equal(action[name], array)
                    assert stale or policy.last.made.captured_ns >= policy.last.began_ns
                    sources[policy.last.source.value] += 1
                    previous = action
        assert wait_until(lambda: server.robots == 0), "a session was left behind"
    return sources


def draw(numbers: random.Random, size: dict[str, int]) -> Fault:
    """A fault anywhere in the bytes of the next step, or in the handshake after the last fault."""
    direction = numbers.choice((UP, DOWN))
    return Fault(
        numbers.choice(KINDS),
        direction,
        numbers.randrange(size[direction]),
        seconds=numbers.choice((0.01, 0.05, 0.2)),
        count=numbers.choice((1, 8, 32, 100)),
    )


@pytest.mark.parametrize(("alone", "hedge"), [(False, False), (True, False), (True, True)])
def test_faults(alone: bool, hedge: bool) -> None:
    sources = inject(20, seed=5, alone=alone, hedge=hedge)
    assert sources["chosen"] > 0
    assert sources["alone" if alone else "stale"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(("alone", "hedge"), [(False, False), (True, False), (True, True)])
def test_a_thousand_faults(alone: bool, hedge: bool) -> None:
    sources = inject(400, seed=6, alone=alone, hedge=hedge)
    assert sources["chosen"] > 100


def test_no_action_yet_is_an_error() -> None:
    program, plan, engines = crossing_deployment()
    with (
        served(plan, engines) as server,
        Proxy(server.address) as proxy,
        EdgeSession(plan, DIGEST, engines, proxy.address, deadline=DEADLINE_S) as policy,
    ):
        proxy.arm(Fault("stall", DOWN, 0))
        with pytest.raises(DeadlineMissed, match=r"no action for step 0 within 0.1 s"):
            policy.step(observation(program))
