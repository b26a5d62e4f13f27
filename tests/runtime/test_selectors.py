"""Selectors against brute force, and RoboECC's thresholds against its words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.deployments import crossing_deployment

from vlacut.errors import InputError
from vlacut.hardware import Link, parse_link
from vlacut.plans.plan import Plan, Variant
from vlacut.pricing.price import Price
from vlacut.runtime.network.conformal import LEVELS
from vlacut.runtime.network.estimate import sampling_interval, shortest_side
from vlacut.runtime.network.predictors import PREDICTORS
from vlacut.runtime.network.selectors import (
    SELECTORS,
    Argmin,
    ByThresholds,
    Forecast,
    Quantile,
    make_selector,
    miss_probability,
    steady,
)
from vlacut.runtime.network.thresholds import Change, Thresholds, changes_of, fit_thresholds

LINK = parse_link("10MB/s/20MB/s,10ms")


def priced(name: str, compute_s: float, up: int, down: int, hops: int, like: Variant) -> Variant:
    half = compute_s / 2
    made = Price(
        edge_s=half,
        cloud_s=half,
        up_s=up / LINK.up,
        down_s=down / LINK.down,
        hop_s=0,
        bytes_up=up,
        bytes_down=down,
        crossings=2,
        hops=hops,
        edge_weight_bytes=0,
        cloud_weight_bytes=0,
    )
    return Variant(name, like.schedule, made)


@pytest.fixture(scope="module")
def plan() -> Plan:
    """Fast and chatty to slow and quiet; what lies between is best between."""
    _, made, _ = crossing_deployment()
    like = made.variants[0]
    variants = (
        priced("chosen", 0.20, 200_000, 50_000, 2, like),
        priced("chatty", 0.15, 900_000, 50_000, 2, like),
        priced("quiet", 0.40, 20_000, 2_000, 2, like),
        priced("silent", 1.00, 0, 0, 0, like),
    )
    return replace(made, link=LINK, variants=variants)


rates = st.floats(1e4, 1e9)


@given(rates, rates, st.floats(0, 0.5))
def test_argmin_is_the_cheapest_by_the_plan_s_price(
    plan: Plan, up: float, down: float, rtt: float
) -> None:
    link = Link(up, down, rtt)
    prices = [variant.price.over(link) for variant in plan.variants]
    chosen = Argmin(plan).select(steady(link))
    assert prices[chosen] == pytest.approx(min(prices), rel=1e-9)


def test_argmin_stays_until_another_gains_enough(plan: Plan) -> None:
    selector = Argmin(plan, gain=0.1)
    names = [variant.name for variant in plan.variants]
    near = [LINK.at(rate) for rate in np.geomspace(1e5, 1e8, 400)]
    before = selector.select(steady(near[0]))
    for link in near:
        prices = [variant.price.over(link) for variant in plan.variants]
        found = selector.select(steady(link))
        if found != before:
            assert prices[found] == min(prices)
            assert prices[found] < 0.9 * prices[before]
        else:
            assert min(prices) >= 0.9 * prices[found]
        before = found
    assert names[before] == "chatty"


def spread(low: float, high: float) -> Forecast:
    """Log-uniform between two bandwidths of the wire, in both directions."""

    def rate(quantile: float | None) -> float:
        return float(low * (high / low) ** (0.5 if quantile is None else quantile))

    return Forecast(rate, lambda q: 2 * rate(q), 0.01, rate(None))


@settings(max_examples=50)
@given(st.floats(1e5, 1e7), st.floats(1.1, 100), st.floats(0.16, 0.95))
def test_the_quantile_selector_misses_least(
    plan: Plan, low: float, ratio: float, deadline: float
) -> None:
    forecast = spread(low, low * ratio)
    draws = np.linspace(0.0005, 0.9995, 1000)
    links = [forecast.over(plan.link, float(draw)) for draw in draws]
    missed = [
        np.mean([variant.price.over(link) > deadline for link in links])
        for variant in plan.variants
    ]
    chosen = Quantile(plan, deadline).select(forecast)
    assert missed[chosen] <= min(missed) + 0.06  # levels are up to 0.1 apart


def test_without_a_deadline_the_quantile_selector_is_cautious(plan: Plan) -> None:
    wide = spread(1e5, 1e9)
    at_worst = Argmin(plan).select(steady(wide.over(plan.link, 0.1)))
    assert Quantile(plan, None).select(wide) == at_worst
    assert at_worst != Argmin(plan).select(wide)


def test_the_probability_of_a_miss() -> None:
    times = 1 / np.linspace(1, 2, LEVELS.size)
    assert miss_probability(times, 1.0) == 0
    assert miss_probability(times, 0.4) == 1
    assert miss_probability(times, float(times[5])) == pytest.approx(LEVELS[5])


def jumping(before: float, after: float) -> Forecast:
    return Forecast(lambda _: after, lambda _: after, 0.01, before)


def test_thresholds_move_to_the_most_and_the_least_bytes(plan: Plan) -> None:
    selector = ByThresholds(plan)
    selector.thresholds = Thresholds(1e6, -1e6)
    chosen = [
        plan.variants[selector.select(jumping(5e6, 5e6 + change))].name
        for change in (0.0, 0.9e6, 1.1e6, 0.0, -0.9e6, -1.1e6, 0.0, 2e6)
    ]
    expected = "chosen chosen chatty chatty chatty silent silent chatty"
    assert chosen == expected.split()


def mean_s(plan: Plan, changes: list[Change], tried: Thresholds) -> float:
    """By the selector itself, step by step."""
    selector = ByThresholds(plan)
    selector.thresholds = tried
    total = 0.0
    for change in changes:
        used = selector.select(jumping(1e9, 1e9 + change.predicted))
        total += plan.variants[used].price.over(plan.link.at(change.came))
    return total / len(changes)


def test_thresholds_are_found_by_the_paper_s_procedure(plan: Plan) -> None:
    numbers = np.random.default_rng(5)
    levels = np.repeat(numbers.choice([2e5, 2e6, 2e7], 12), 8)
    history = [(levels * numbers.lognormal(0, 0.2, levels.size)).tolist()]
    changes = changes_of(history, PREDICTORS["ewma"])
    assert len(changes) == levels.size - 1
    found = fit_thresholds(plan, changes)
    predicted = np.array([change.predicted for change in changes])
    first = Thresholds(float(predicted.max()), -np.inf)
    lows = np.quantile(predicted[predicted < 0], np.linspace(0, 1, 32))
    by_low = [mean_s(plan, changes, replace(first, low=float(low))) for low in lows]
    assert mean_s(plan, changes, replace(found, high=first.high)) <= min(by_low) + 1e-12
    highs = np.quantile(predicted[predicted > 0], np.linspace(0, 1, 32))
    by_high = [mean_s(plan, changes, replace(found, high=float(high))) for high in highs]
    assert mean_s(plan, changes, found) == pytest.approx(min(by_high))
    assert mean_s(plan, changes, found) <= mean_s(plan, changes, Thresholds()) + 1e-12
    assert make_selector("thresholds", plan, history=history).thresholds == found  # type: ignore[attr-defined]


def test_without_a_history_thresholds_come_with_the_steps(plan: Plan) -> None:
    selector = ByThresholds(plan)
    assert selector.thresholds == Thresholds()
    numbers = np.random.default_rng(0)
    for _ in range(64):
        now = float(numbers.choice([2e5, 2e7]))
        selector.select(jumping(now, 2e6))
    assert selector.thresholds != Thresholds()


def test_selectors_by_name(plan: Plan) -> None:
    for name in (*SELECTORS, "quiet"):
        selector = make_selector(name, plan, deadline=0.5)
        assert 0 <= selector.select(steady(LINK)) < len(plan.variants)
    assert make_selector("quiet", plan).select(steady(LINK)) == 2
    seen = {make_selector("random", plan, seed=seed).select(steady(LINK)) for seed in range(40)}
    assert seen == {0, 1, 2, 3}
    with pytest.raises(InputError, match="no selector or variant 'fast'; the selectors are random"):
        make_selector("fast", plan)


def test_an_outage_has_a_price(plan: Plan) -> None:
    dead = Forecast(lambda _: 0.0, lambda _: 0.0, 0.01, 0.0)
    assert plan.variants[Argmin(plan).select(dead)].name == "silent"
    assert plan.variants[Quantile(plan, 0.3).select(dead)].name == "silent"


def test_samples_are_closer_than_a_side_computes(plan: Plan) -> None:
    """RoboECC's equation 3."""
    assert shortest_side(plan) == pytest.approx(0.075)
    assert sampling_interval(plan) < min(0.1001, shortest_side(plan))
