"""Switching a variant that moves state: what it costs, and when selectors take it."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace

import pytest
from support.deployments import pool_deployment
from support.programs import random_stateful

from vlacut.control.inferring.latency import InferenceTimes
from vlacut.hardware import Link
from vlacut.plans.plan import Plan
from vlacut.pricing.price import Price
from vlacut.runtime.network.selectors import Argmin, Quantile, steady
from vlacut.simulation.loop import network_of, walks_of
from vlacut.simulation.walk import StepWalk

LINK = Link(1e3, 2e3, 0.01)


def moving_plan(first_s: float, second_s: float) -> Plan:
    """Two variants of such prices, of which the second reads state where the first has none."""
    for seed in range(200):
        plan, _ = pool_deployment(random_stateful(seed), seed, variants=2)
        if sum(plan.moves[0][1]):
            names = [field.name for field in fields(Price) if field.default is MISSING]
            nothing = Price(**dict.fromkeys(names, 0))
            pairs = zip(plan.variants, (first_s, second_s), strict=True)
            found = tuple(
                replace(variant, price=replace(nothing, edge_s=seconds))
                for variant, seconds in pairs
            )
            return replace(plan, variants=found, link=LINK)
    raise AssertionError("no plan moves state")


def with_second(plan: Plan, seconds: float) -> Plan:
    first, second = plan.variants
    other = replace(second, price=replace(second.price, edge_s=seconds))
    return replace(plan, variants=(first, other))


def test_a_switch_takes_what_moves() -> None:
    plan = moving_plan(1.0, 1.0)
    up, down = plan.moves[0][1]
    expected = up / LINK.up + (down / LINK.down + 2 * LINK.hop_s if down else 0.0)
    assert expected > 0.0
    assert plan.move_s(0, 1, LINK) == pytest.approx(expected)
    assert plan.moves[0][0] == (0, 0)


def test_argmin_switches_once_it_would_have_paid() -> None:
    plan = moving_plan(1.0, 10.0)
    selector, costs_s = Argmin(plan, gain=0.0), plan.move_s(0, 1, LINK)
    assert selector.select(steady(LINK)) == 0
    saved_s = costs_s / 4.5  # of every step, from now on
    selector._plan = with_second(plan, 1.0 - saved_s)
    assert [selector.select(steady(LINK)) for _ in range(6)] == [0, 0, 0, 0, 1, 1]


def test_a_deadline_counts_the_switch_in_the_step() -> None:
    plan = moving_plan(1.0, 10.0)
    costs_s = plan.move_s(0, 1, LINK)
    selector = Quantile(plan, deadline=1.0 + costs_s / 2)
    assert selector.select(steady(LINK)) == 0
    selector._plan = with_second(plan, 1.0 - costs_s / 4)
    assert selector.select(steady(LINK)) == 0  # with the move it would be late
    selector._plan = with_second(plan, 1.0 - 2 * costs_s)
    assert selector.select(steady(LINK)) == 1


def test_a_simulated_step_after_a_switch_is_later_by_what_moves() -> None:
    plan = moving_plan(1.0, 1.0)
    network = network_of(LINK)
    walk = StepWalk(plan, 1)
    plain, same = walk.end(0.0, network), walk.end(0.0, network, before=1)
    assert plain == same
    moved = walk.end(0.0, network, before=0)
    assert plain < moved < plain + plan.move_s(0, 1, LINK) + 1.0
    assert len(walks_of(plan)) == 2


def test_what_a_control_loop_expects_of_a_switch_counts_what_moves() -> None:
    """An inference by the other variant takes its price and the move's; what a move took is not
    taken for a slow machine; and an episode begins where both sides have the state.
    """
    plan, rates = moving_plan(1.0, 1.0), steady(LINK).at()
    move_s = plan.move_s(0, 1, rates.over(LINK))
    assert move_s > 0
    times = InferenceTimes(plan)
    assert times.at(rates)[0] == (1.0, 1.0)
    times.learn(0, rates, 1.0)
    assert times.at(rates)[0] == pytest.approx((1.0, 1.0 + move_s))
    times.learn(1, rates, 1.0 + move_s)
    middle, late = times.at(rates)
    assert middle[1] == pytest.approx(1.0)
    assert late[1] == pytest.approx(1.0)
    times.fell_back(0.1, left=0)  # by the edge alone, which keeps the state with it
    assert times.at(rates)[0] == pytest.approx((1.0, 1.0 + move_s))
    times.reset()
    assert times.at(rates)[0] == pytest.approx((1.0, 1.0))
