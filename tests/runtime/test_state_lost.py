"""Connections that fail while state is on its way: what the report says, and what is lost."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
from support.cutting import Reference
from support.deployments import DIGEST, initial_of, pool_deployment, served
from support.programs import observation, random_stateful
from support.proxy import DOWN, UP, Fault, Proxy

from vlacut.hardware import Side
from vlacut.ir.program import Program
from vlacut.plans.plan import Plan
from vlacut.plans.state import StateRule
from vlacut.runtime.edge.memory import is_remote
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.wire.protocol.header import HEADER_BYTES
from vlacut.runtime.wire.route import Route

Found = tuple[Program, Plan, dict[str, Any], tuple[int, int]]


def deployment(fits: Callable[[Plan, int, int], bool]) -> Found:
    """One with two variants, one after the other, of this kind."""
    for seed in range(1000):
        program = random_stateful(seed)
        plan, engines = pool_deployment(program, seed)
        every = range(len(plan.variants))
        for before, after in ((one, other) for one in every for other in every):
            if not plan.staying_keys and fits(plan, before, after):
                return program, plan, engines, (before, after)
    raise AssertionError("no such deployment")


def one_state_goes_up(plan: Plan, before: int, after: int) -> bool:
    """A switch moves one tensor of state up, before the step sends anything else."""
    first = Route(plan, Side.EDGE, after).stops
    return len(plan.states) == 1 and plan.moves[before][after][0] > 0 and len(first) > 1


def comes_behind(plan: Plan, before: int, after: int) -> bool:
    """The first leaves all state on the edge at once; what the other leaves there comes behind its
    action.
    """
    first, then = Route(plan, Side.EDGE, before, first=True), Route(plan, Side.EDGE, after)
    held = plan.state_uses[before].keeps[Side.EDGE]
    return (
        bool(plan.states)
        and held == plan.state_keys
        and len(first.due) == first.awaited
        and first.crosses
        and len(then.due) == then.awaited + 1
        and bool(plan.state_uses[after].reads[Side.EDGE])
    )


def test_state_that_crossed_before_a_connection_failed_is_not_sent_again() -> None:
    program, plan, engines, (before, after) = deployment(one_state_goes_up)
    given, reference = initial_of(program), Reference(program)
    up, _ = plan.move_bytes(before, after)
    with (
        served(plan, engines, initial=given, timeout=20) as server,
        Proxy(server.address) as proxy,
        EdgeSession(plan, DIGEST, engines, proxy.address, 20, initial=given) as policy,
    ):
        for number, variant in enumerate((before, after)):
            if variant == after:  # all of the state's frame passes, and a part of the next
                proxy.arm(Fault("cut", UP, HEADER_BYTES + up + 1))
            action = policy.step(observation(program, number), variant=variant)
            for name, array in reference.step(observation(program, number)).items():
                np.testing.assert_array_equal(action[name], array)
    report, price = policy.last, plan.variants[after].price
    assert (report.retries, report.state) == (1, StateRule.KEPT)
    assert (report.bytes_up, report.bytes_down) == (price.bytes_up, price.bytes_down)


def test_a_copy_that_was_still_to_come_is_made_again() -> None:
    program, plan, engines, (before, after) = deployment(comes_behind)
    given, reference = initial_of(program), Reference(program)
    coming = Route(plan, Side.EDGE, after)
    passes = sum(coming.sizes) + len(coming.due) * coming.ahead_bytes - 1
    with ExitStack() as clouds, Proxy(("127.0.0.1", 9)) as proxy:

        def start() -> None:
            cloud = served(plan, engines, initial=given, timeout=20)
            proxy.target = clouds.enter_context(cloud).address

        start()
        with EdgeSession(plan, DIGEST, engines, proxy.address, 20, initial=given) as policy:
            for number, variant in enumerate((before, after, after)):
                if number == 1:
                    proxy.arm(Fault("cut", DOWN, passes))
                if number == 2:
                    clouds.close()
                    start()
                action = policy.step(observation(program, number), variant=variant)
                for name, array in reference.step(observation(program, number)).items():
                    np.testing.assert_array_equal(action[name], array)
    assert is_remote(plan)
    assert proxy.struck == 1
    assert (policy.last.state, policy.last.again) == (StateRule.RECOMPUTED, 1)
