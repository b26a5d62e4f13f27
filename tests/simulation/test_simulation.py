"""The control loop on paper: against the runtime's own frames, the price, and what cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.deployments import crossing_deployment, deployment, deployment_with_alone
from support.lstm import untrained

from vlacut.errors import HardwareError, InputError
from vlacut.hardware import Link, Side
from vlacut.hardware.trace import Trace
from vlacut.plans.instructions import runs
from vlacut.plans.plan import Plan, Variant
from vlacut.runtime.network.lstm import write_weights
from vlacut.runtime.network.predictors import make_predictor
from vlacut.runtime.network.selectors import Forecast, make_selector
from vlacut.runtime.wire.layout import Layout
from vlacut.runtime.wire.protocol.header import HEADER_BYTES
from vlacut.runtime.wire.route import routes_of
from vlacut.simulation import (
    CLAIRVOYANT,
    FRAMES,
    LINK,
    ByForecast,
    ByFrames,
    Clairvoyant,
    Comparison,
    Fixed,
    Recording,
    StepWalk,
    network_of,
    run_loop,
    walks_of,
)
from vlacut.tensor import TensorSpec

SLOW = Link(1e5, 2e5, 0.02, 5e-4)
LARGER = 1000  # so that rates matter more than headers


def timed(plan: Plan, seed: int = 0) -> Plan:
    """The plan with parts that take some milliseconds."""
    numbers = np.random.default_rng(seed)
    parts = [replace(part, seconds=float(numbers.uniform(1e-3, 2e-2))) for part in plan.parts]
    return replace(plan, parts=tuple(parts))


def plan_with_alone() -> Plan:
    """Two variants, priced as their parts take: one that crosses, and a slow all-edge."""
    plan = timed(deployment_with_alone()[1])
    slow = {part.name for part in plan.parts if part.name.startswith("alone.")}
    plan = replace(
        plan,
        inputs=tuple(map(larger, plan.inputs)),
        tensors=tuple(map(larger, plan.tensors)),
        parts=tuple(
            replace(part, seconds=0.1) if part.name in slow else part for part in plan.parts
        ),
    )
    variants = []
    for variant in plan.variants:
        price, times = variant.price, [seconds_of(plan, variant, side) for side in Side]
        moved = LARGER * price.bytes_up, LARGER * price.bytes_down
        keys = ("edge_s", "cloud_s", "bytes_up", "bytes_down")
        price = replace(price, **dict(zip(keys, (*times, *moved), strict=True)))
        variants.append(replace(variant, price=price))
    return replace(plan, variants=tuple(variants))


def larger(spec: TensorSpec) -> TensorSpec:
    return replace(spec, shape=(LARGER, *spec.shape))


def seconds_of(plan: Plan, variant: Variant, side: Side) -> float:
    counted = runs(variant.schedule)
    parts = (plan.part[name] for name in counted)
    return sum(part.seconds * counted[part.name] for part in parts if part.side is side)


@pytest.mark.parametrize("seed", range(6))
def test_the_frames_are_those_of_the_wire(seed: int) -> None:
    _, plan, _ = deployment(seed)
    passed = StepWalk(plan, 0).passages(0.0, network_of(SLOW))
    for side, up in ((Side.CLOUD, True), (Side.EDGE, False)):
        layout = Layout(plan, side)
        rooms = [layout.room(*due)[1].nbytes + HEADER_BYTES for due in routes_of(plan, side)[0].due]
        assert [frame.nbytes for frame in passed if frame.up is up] == rooms


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 40), st.integers(0, 3))
def test_a_step_takes_as_long_as_its_work_and_no_longer_than_its_price(
    seed: int, times: int
) -> None:
    plan = timed(deployment(seed)[1], times)
    walk, network = StepWalk(plan, 0), network_of(SLOW)
    passed = walk.passages(0.0, network)
    end = walk.end(0.0, network)
    edge_s, cloud_s = (seconds_of(plan, plan.variants[0], side) for side in Side)
    sent = sum(frame.nbytes / (SLOW.up if frame.up else SLOW.down) for frame in passed)
    hops = sum(network.hop_s for _ in passed)
    assert end >= edge_s - 1e-9
    assert end <= edge_s + cloud_s + sent + hops + 1e-9


def test_a_frame_waits_for_those_before_it_and_for_the_rate() -> None:
    _, plan, _ = crossing_deployment()
    walk = StepWalk(timed(plan), 0)
    trace = Trace((2e4, 0.0, 3e5), (0.05, 0.2, 0.1))
    network = network_of(SLOW, trace)
    free = {True: 0.0, False: 0.0}
    for frame in walk.passages(0.01, network):
        service = network.up if frame.up else network.down
        assert frame.began == max(frame.sent, free[frame.up])
        assert frame.through == service.finish(frame.began, frame.nbytes)
        assert frame.arrived == frame.through + network.hop_s
        free[frame.up] = frame.through


def test_what_is_still_on_the_uplink_is_waited_for() -> None:
    _, plan, _ = crossing_deployment()
    walk, network = StepWalk(plan, 0), network_of(SLOW)
    assert walk.end(1.0, network, busy=3.0) > 3.0
    assert walk.end(1.0, network, busy=0.5) == walk.end(1.0, network)


def test_steps_are_back_to_back_or_at_the_ticks_of_a_period() -> None:
    plan = timed(crossing_deployment()[1])
    walks, network = walks_of(plan), network_of(SLOW)
    once = walks[0].end(0.0, network)
    free = run_loop(walks, network, Fixed(0), seconds=2.0)
    assert free.starts[1:] == pytest.approx((free.starts + free.latencies)[:-1])
    assert len(free.starts) == int(np.ceil(2.0 / once))
    loose = run_loop(walks, network, Fixed(0), steps=4, period=2 * once)
    assert loose.starts == pytest.approx(np.arange(4) * 2 * once)
    tight = run_loop(walks, network, Fixed(0), steps=4, period=once * 0.6)
    assert tight.starts == pytest.approx(np.arange(4) * 1.2 * once)
    with pytest.raises(InputError, match="above 0"):
        run_loop(walks, network, Fixed(0), steps=1, period=0.0)


traces = st.lists(
    st.tuples(st.sampled_from([0.0, 3e3, 2e4, 2e5, 1e6]), st.floats(0.05, 0.5)),
    min_size=1,
    max_size=12,
).map(lambda rows: [*rows, (1e5, 0.2)])


@settings(deadline=None, max_examples=40)
@given(traces, st.lists(st.integers(0, 1), min_size=8, max_size=8), st.sampled_from([None, 0.05]))
def test_no_choice_ends_a_step_sooner_than_the_clairvoyant(
    rows: list[tuple[float, float]], choices: list[int], period: float | None
) -> None:
    plan = plan_with_alone()
    walks = walks_of(plan)
    network = network_of(SLOW, Trace(*map(tuple, zip(*rows, strict=True))))

    class Chosen(Fixed):
        def __init__(self) -> None:
            self.left = iter(choices)

        def decide(self, start: float) -> int:
            return next(self.left)

    best = run_loop(walks, network, Clairvoyant(walks, network), steps=8, period=period)
    other = run_loop(walks, network, Chosen(), steps=8, period=period)
    assert (best.starts + best.latencies <= other.starts + other.latencies + 1e-9).all()


class Told:
    """A selector that keeps what it is told, and takes a variant in turn."""

    looks_ahead = True

    def __init__(self, count: int) -> None:
        self.forecasts: list[tuple[float, float, float]] = []
        self._count = count

    def select(self, forecast: Forecast) -> int:
        self.forecasts.append((forecast.up(None), forecast.down(None), forecast.rtt_s))
        return len(self.forecasts) // 8 % self._count


def test_the_link_is_sampled_interval_after_interval() -> None:
    plan = plan_with_alone()
    trace = Trace((1e5, 2e5, 4e4, 1e5), (0.3, 0.4, 0.5, 60.0))
    walks, network, interval = walks_of(plan), network_of(SLOW, trace), 0.1
    told = Told(len(walks))
    decider = ByForecast(told, lambda: make_predictor("last"), network, SLOW, interval)
    outcome = run_loop(walks, network, decider, start=interval, steps=12)
    samples = trace.sampled(interval)
    due = [samples[int(start / interval + 1e-9) - 1] for start in outcome.starts]
    assert [up for up, _, _ in told.forecasts] == pytest.approx(due, rel=1e-6)
    assert [down for _, down, _ in told.forecasts] == pytest.approx([2 * up for up in due])
    assert {rtt for _, _, rtt in told.forecasts} == {SLOW.rtt}


@pytest.mark.parametrize("rate", [1e5, 1e6])
def test_frames_tell_the_rate_and_probes_where_nothing_crosses(rate: float) -> None:
    """The link is not what it was taken for; half of the steps are made by the edge alone."""
    plan = plan_with_alone()
    link = Link(rate, 3 * rate, 0.02, 5e-4)
    walks, network = walks_of(plan), network_of(link)
    told = Told(len(walks))
    thought = Link(20 * rate, 60 * rate, 0.05)
    decider = ByFrames(told, lambda: make_predictor("last"), walks, network, thought, 0.05)
    run_loop(walks, network, decider, steps=64)
    up, _, rtt = told.forecasts[-1]
    assert told.forecasts[0] == pytest.approx((thought.wire_up, thought.wire_down, thought.rtt))
    assert up == pytest.approx(link.wire_up, rel=0.15)
    assert rtt == pytest.approx(2 * link.hop_s, rel=0.1)


def test_where_nothing_was_heard_yet_the_first_step_is_probed_beside() -> None:
    """Also at second 0 of the simulation's clock; the answer is known to the next step."""
    plan = plan_with_alone()
    alone = plan.crosses.index(False)
    link = Link(1e6, 1e6, 0.02, 5e-4)
    walks, network = walks_of(plan), network_of(link)
    seen: list[float] = []

    class Alone:
        looks_ahead = True

        def select(self, forecast: Forecast) -> int:
            seen.append(forecast.up(None))
            return alone

    told = ByFrames(Alone(), lambda: make_predictor("last"), walks, network, SLOW, 0.05)
    run_loop(walks, network, told, steps=2)
    assert seen == [SLOW.wire_up, pytest.approx(link.wire_up, rel=0.05)]


@pytest.mark.parametrize("knows", [LINK, FRAMES])
def test_a_race_of_policies(knows: str) -> None:
    plan = plan_with_alone()
    numbers = np.random.default_rng(3)
    rates = 10 ** numbers.uniform(4, 7, 25)
    recording = Recording("made", Trace(tuple(rates), (6.0,) * 25))
    race = Comparison(
        plan, [recording, recording], SLOW, deadline=0.5, knows=knows, history=[recording]
    )
    names = [variant.name for variant in plan.variants]
    rows = race.run(["argmin", "thresholds", "random", *names], ["last", "ewma"])
    assert [(row.selector, row.predictor) for row in rows] == [
        (CLAIRVOYANT, ""),
        *((selector, name) for selector in ("argmin", "thresholds") for name in ("last", "ewma")),
        *((name, "") for name in ("random", *names)),
    ]
    by_name = {row.selector: row for row in reversed(rows)}
    assert all(row.regret(rows[0]) >= -1e-3 for row in rows)
    assert by_name["argmin"].mean_s < min(by_name[name].mean_s for name in ("random", *names))
    assert by_name[names[0]].switches == 0
    assert by_name["random"].switches > 0
    for row in rows:
        late = [float(one) for one in row.latencies if one > 0.5]
        assert row.missed == len(late)


def test_what_carries_nothing_and_what_nobody_knows_is_refused() -> None:
    plan = plan_with_alone()
    with pytest.raises(HardwareError, match="carries nothing"):
        Comparison(plan, [Recording("out", Trace((0.0,), (1.0,)))], SLOW).run([], [])
    race = Comparison(plan, [Recording("one", Trace((1e5,), (1.0,)))], SLOW)
    with pytest.raises(InputError, match="no selector or variant 'best'"):
        race.run(["best"], ["last"])
    with pytest.raises(InputError, match="no predictor 'oracle'"):
        race.run(["argmin"], ["oracle"])


def test_a_step_that_met_two_bandwidths_does_not_rule_the_cloud_out() -> None:
    """Up at a high rate, down at a low one: the downlink's estimate must not stay with that."""
    plan = plan_with_alone()
    trace = Trace((5e6, 2e4, 5e6), (3.0, 3.0, 60.0))
    network, walks = network_of(SLOW, trace), walks_of(plan)
    for shift in np.linspace(0, 0.3, 7):
        selector = make_selector("argmin", plan)
        made = ByFrames(selector, lambda: make_predictor("last"), walks, network, SLOW, 0.05)
        outcome = run_loop(walks, network, made, start=float(shift), seconds=20.0)
        assert set(outcome.variants[outcome.starts > 12.0]) == {0}


def test_the_lstm_gets_samples_as_far_apart_as_those_it_was_trained_on(tmp_path: Path) -> None:
    weights = untrained(0)
    write_weights(tmp_path / "lstm.npz", weights)
    race = Comparison(
        plan_with_alone(),
        [Recording("made", Trace((1e5, 1e6), (5.0, 5.0)))],
        SLOW,
        interval=0.02,
        model=tmp_path / "lstm.npz",
    )
    assert race.interval_s("lstm") == weights.interval_s != 0.02
    assert race.interval_s("last") == 0.02
    rows = race.run(["argmin"], ["lstm", "last"])
    assert [row.predictor for row in rows] == ["", "lstm", "last"]
    assert {row.outcomes[0].starts[0] for row in rows} == {weights.interval_s}
