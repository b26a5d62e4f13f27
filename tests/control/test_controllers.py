"""Controllers: what they ask for, and when; and the scores that they go by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.arm import SENSED, TICK_S, script
from support.control import LENGTH, OBSERVATION, TICK_NS, cycle_of

from vlacut.control.controllers.entropy import Entropy
from vlacut.control.controllers.learnt import Risk
from vlacut.control.controllers.naming import CONTROLLERS, make_controller
from vlacut.control.controllers.priced import Priced
from vlacut.control.controllers.rapid import Hysteresis, Rapid
from vlacut.control.controllers.simple import Periodic
from vlacut.control.inferring.inference import Inference
from vlacut.control.inferring.virtual import Course
from vlacut.control.renewal import gone_back
from vlacut.control.report import Route
from vlacut.control.signals.motion import UNFITTED, MotionMeter, MotionScale
from vlacut.control.signals.risk import FEATURES, RiskModel
from vlacut.control.situation import (
    Ahead,
    Buffered,
    Coming,
    Decision,
    Keep,
    Motion,
    Request,
    Seam,
    Situation,
)
from vlacut.control.tables import ActionTables, read_tables, write_tables
from vlacut.errors import BundleError, InputError
from vlacut.tensor.npz import npz_bytes, read_npz

ROUTES = (
    Route("edge", "edge", "float32", edge_s=0.3),
    Route("cut", "cut", "float32", edge_s=0.05, cloud_s=0.03),
    Route("cloud", "cloud", "float32", cloud_s=0.05),
)


def situation(**changes: Any) -> Situation:
    buffer = Buffered(0.5, 0.2, None, 0.2, False, 0)
    made = Situation(9, 0.05, None, (0.3, 0.15, 0.1), Motion(), Ahead(), buffer, None, (), None)
    within = {key: changes.pop(key) for key in list(changes) if key in Buffered._fields}
    return made._replace(buffer=buffer._replace(**within), **changes)


def tables(**changes: Any) -> ActionTables:
    """Two bins: what is risky ages four times as fast, and is allowed less."""
    model = RiskModel(np.eye(FEATURES)[0], np.zeros(FEATURES), np.ones(FEATURES), -1.0, 0.5)
    made: dict[str, Any] = {
        "variants": ("cloud", "cut", "edge"),
        "period_s": 0.05,
        "scale": np.ones(3),
        "edges": np.array([0.5]),
        "e_variant": np.array([[0.0, 0.0], [0.0, 0.0], [0.01, 0.2]]),
        "e_stale": np.outer(np.arange(20), [0.005, 0.02]),
        "eps": np.array([0.06, 0.09]),
        "alpha": 0.1,
        "counts": np.array([900, 100]),
        "risk": model,
        "motion": MotionScale((1.0, 2.0), (3.0,), 0.1, 0.2, 0.3),
        "rapid": (4.0, 2.0),
    }
    return ActionTables(**{**made, **changes})


CALM = Motion()
RISKY = Motion(importance=9.0, acceleration=9.0, samples=1)


def test_scores_are_those_of_their_formula() -> None:
    numbers = np.random.default_rng(0)
    qd, tau = numbers.standard_normal((400, 3)), numbers.standard_normal((400, 3))
    scale = MotionScale((1.0, 2.0, 0.5), (0.5, 1.0, 3.0), 0.1, 0.2, 1.5)
    meter, pairs = MotionMeter(SENSED, scale), zip(qd, tau, strict=True)
    made = [meter.sense(None, a, b, (i + 1) * 2_000_000) for i, (a, b) in enumerate(pairs)]
    a = np.linalg.norm(np.diff(qd, axis=0) * scale.acceleration, axis=1) * SENSED
    d = np.linalg.norm((tau[5:] - tau[:-5]) * scale.torque, axis=1) / 5  # of means over 10 ms
    for index in (200, 307, 399):
        window_a, window_d = a[index - 101 : index - 1], d[index - 105 : index - 5]
        z_a = max(0.0, (a[index - 1] - window_a.mean()) / (window_a.std() + 0.1))
        z_t = max(0.0, (d[index - 5] - window_d.mean()) / (window_d.std() + 0.2))
        speed = np.linalg.norm(qd[index])
        weight = speed / (speed + 1.5)
        sample = made[index]
        assert sample is not None
        assert sample.acceleration == pytest.approx(z_a, abs=1e-9)
        assert sample.torque == pytest.approx(z_t, abs=1e-9)
        assert sample.importance == pytest.approx(weight * z_a + (1 - weight) * z_t, abs=1e-9)
    tick = meter.take()
    assert tick.samples == 399
    assert tick.importance == max(one.importance for one in made if one)
    assert meter.take() == Motion()


def test_sums_do_not_drift() -> None:
    meter = MotionMeter(SENSED, MotionScale(acceleration_floor=1.0, torque_floor=1.0, speed=1.0))
    for index in range(5000):
        meter.sense(None, [1e8 * (index % 2) if index < 2000 else 0.0], None, (index + 1) * 2000000)
    assert meter._accelerations._squares == 0.0
    assert meter._accelerations._sum == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_sensor_that_fails_triggers_nothing(bad: float) -> None:
    meter = MotionMeter(SENSED)
    for index in range(200):
        meter.sense(None, [0.1, 0.2], [1.0, 1.0], (index + 1) * 2_000_000)
    meter.take()
    assert meter.sense(None, [bad, 0.2], [1.0, 1.0], 201 * 2_000_000) is None
    assert meter.sense(None, [0.1, 0.2], [bad, 1.0], 202 * 2_000_000) is None
    assert meter.sense(None, [0.1, 0.2], [1.0, 1.0], 150 * 2_000_000) is None  # before the last
    assert meter.dropped == 3
    # It comes back after a second, elsewhere: no jump is seen where none was sensed.
    assert meter.sense(None, [5.0, 5.0], [9.0, 9.0], 800 * 2_000_000) is None
    assert meter.take() == Motion()


def test_positions_do_where_there_are_no_velocities() -> None:
    meter, other = MotionMeter(SENSED), MotionMeter(SENSED)
    q = np.cumsum(np.random.default_rng(1).standard_normal((300, 4)), axis=0) / SENSED
    qd = np.diff(q, axis=0, prepend=q[:1]) * SENSED
    for index in range(300):
        meter.sense(q[index], None, None, (index + 1) * 2_000_000)
        if index:
            other.sense(None, qd[index], None, (index + 1) * 2_000_000)
    assert meter.take().importance == pytest.approx(other.take().importance, rel=1e-6)


def test_contact_is_seen_and_free_motion_is_not() -> None:
    """On scripted episodes: the ticks that matter score higher, by the area under the ROC curve."""
    scores, critical = [], []
    for seed in range(8):
        meter, made = MotionMeter(SENSED, UNFITTED), script(seed)
        every = round(TICK_S * SENSED)
        for index, (qd, tau) in enumerate(zip(made.qd, made.tau, strict=True)):
            meter.sense(None, qd, tau, (index + 1) * 2_000_000)
            if (index + 1) % every == 0 and (index + 1) // every < len(made.critical):
                scores.append(meter.take().importance)
                critical.append(made.critical[(index + 1) // every - 1])
    above = np.array(scores)[critical][:, None] > np.array(scores)[~np.array(critical)]
    assert above.mean() > 0.9


@given(st.lists(st.floats(0, 6), max_size=60))
def test_hysteresis(scores: list[float]) -> None:
    phase = Hysteresis(3.0, 1.5)
    critical, quiet = False, 0
    for score in scores:
        if score > 3.0:
            critical, quiet = True, 0
        else:
            quiet = quiet + 1 if score < 1.5 else 0
            critical = critical and quiet < 3
        assert phase.critical(score, 0.05) == critical


def test_rapid_asks_once_where_it_matters_and_not_while_it_cools_down() -> None:
    rapid = Rapid(critical=2, redundant=1)
    assert isinstance(rapid.decide(situation()), Keep)
    asked = rapid.decide(situation(motion=RISKY))
    assert asked == Request(2, True, "critical")
    assert isinstance(rapid.decide(situation(motion=RISKY, in_flight_s=0.05)), Keep)
    assert isinstance(rapid.decide(situation(motion=RISKY, since_request_s=0.1)), Keep)
    assert rapid.decide(situation(runs_out=True, since_request_s=0.05)) == Request(
        1, why="runs out"
    )
    rapid.reset()
    assert isinstance(rapid.decide(situation()), Keep)
    bound = Rapid(most_age_s=0.6)
    assert isinstance(bound.decide(situation(age_s=0.4)), Keep)
    assert bound.decide(situation(age_s=0.46)) == Request(why="age")


def test_periodic_keeps_its_period() -> None:
    periodic = Periodic(0.4)
    cycle = cycle_of(lambda *_: Course(0, 0.1), controller=periodic)
    asked = [
        tick
        for tick in range(100)
        if cycle.tick(OBSERVATION, tick * TICK_NS, tick * TICK_NS).asked is not None
    ]
    assert set(np.diff(asked)) == {8}


def test_entropy_asks_the_strong_variant_where_the_cheap_one_is_unsure() -> None:
    entropy = Entropy(threshold=1.0, cheap=0, strong=2)
    assert entropy.decide(situation(runs_out=True, chunk=None)) == Request(0, why="runs out")
    assert isinstance(entropy.decide(situation(chunk=0, entropy=0.5)), Keep)
    assert entropy.decide(situation(chunk=1, entropy=1.5)) == Request(2, True, "entropy")
    assert isinstance(entropy.decide(situation(chunk=2, entropy=9.0)), Keep)  # the strong one's
    unsure = entropy.decide(situation(chunk=3, entropy=math.nan))
    assert isinstance(unsure, Request)
    every = Entropy(threshold=1.0, cheap=0, strong=2, period_s=0.2)
    assert every.decide(situation(since_request_s=0.2)) == Request(0, why="period")


def test_the_learnt_risk_asks_and_time_bounds_what_it_cannot_see() -> None:
    risk = Risk(tables().risk, variant=2)
    assert isinstance(risk.decide(situation()), Keep)
    assert isinstance(risk.decide(situation(motion=RISKY)), Request)
    assert risk.decide(situation(age_s=0.9)) == Request(2, why="age")
    assert risk.decide(situation(runs_out=True)) == Request(2, why="runs out")


def test_the_price_keeps_what_is_good_enough_and_asks_what_is_cheap_enough() -> None:
    controller = Priced(ROUTES, tables())
    assert isinstance(controller.decide(situation()), Keep)
    old = controller.decide(situation(age_s=0.7, left_s=0.4))
    assert isinstance(old, Request)
    assert old.variant == 2  # least compute of those within what is allowed
    asked = Priced(ROUTES, tables(), variants=["edge", "cut"]).decide(situation(age_s=0.7))
    assert isinstance(asked, Request)
    assert asked.variant == 1
    # What is risky ages faster, and what is allowed less is asked for sooner.
    strict = tables(eps=np.full(2, 1e-3))
    assert asks_from(tables(), RISKY) < asks_from(tables(), CALM)
    assert asks_from(strict, CALM) < asks_from(tables(), CALM)
    assert isinstance(Priced(ROUTES, strict).decide(situation(age_s=-0.2)), Keep)
    slow = situation(age_s=0.2, times=(50.0, 50.0, 50.0), left_s=0.3)
    assert isinstance(Priced(ROUTES, tables()).decide(slow), Request)  # it runs out before
    assert isinstance(Priced(ROUTES, tables()).decide(situation(in_flight_s=0.1)), Keep)


def asks_from(of: ActionTables, motion: Motion, coming: Coming | None = None) -> float:
    """The least age of the chunk in force at which the price asks for another."""
    changes = {} if coming is None else {"coming": coming}
    for age in np.arange(0.0, 4.0, 0.01):
        decision = Priced(ROUTES, of).decide(situation(age_s=age, motion=motion, **changes))
        if isinstance(decision, Request):
            return float(age)
    return math.inf


def test_it_asks_where_keeping_is_dearer_than_the_best_cycle() -> None:
    """The rule of age replacement, worked out here for errors that grow evenly.

    Commands that err slope x age from T on, and cost C each cycle, come to the least mean
    slope x (T + L) at L = sqrt(2 C / slope): the chunk is kept up to the age of that error.
    """
    of, route, takes = tables(), 2, 0.1
    slope = {"calm": of.stale(0, 1.0), "risky": of.stale(1, 1.0)}
    paid = float(of.eps[0]) ** 2 / (2 * slope["calm"])  # eps - error, summed until it is eps
    for motion, steep, bin_ in ((CALM, slope["calm"], 0), (RISKY, slope["risky"], 1)):
        added = float(of.e_variant[of.variants.index(ROUTES[route].variant), bin_])
        renewed = math.sqrt(2 * paid / steep)
        expected = (added + steep * (takes + renewed)) / steep - takes - 0.05
        assert asks_from(of, motion) == pytest.approx(expected, abs=0.03)


def test_going_back_is_paid_for_in_every_cycle() -> None:
    """Chunks that are played from their first command on, whatever their age."""
    commands = np.outer(np.arange(16), [0.1, 0.0, 0.2])
    coming = Coming(commands, 0.05, again=True)
    # 3 commands are executed while 0.15 s pass: 3, 2 and 1 steps of a mean of 0.1 behind.
    assert gone_back(coming, 0.15, np.ones(3)) == pytest.approx(0.05 * 0.1 * (3 + 2 + 1))
    assert gone_back(coming, 0.15, np.full(3, 2.0)) == pytest.approx(0.05 * 0.05 * (3 + 2 + 1))
    assert gone_back(coming, 99.0, np.ones(3)) == pytest.approx(0.05 * 0.1 * sum(range(16)))
    assert gone_back(coming._replace(commands=commands[:1]), 0.15, np.ones(3)) == 0
    still = Coming(np.zeros((16, 3)), 0.05, again=True)
    assert asks_from(tables(), CALM, still) == asks_from(tables(), CALM)
    assert asks_from(tables(), CALM, coming._replace(again=False)) == asks_from(tables(), CALM)
    assert asks_from(tables(), CALM, coming) > asks_from(tables(), CALM) + 0.1


@pytest.mark.parametrize("playing", ["naive", "aligned"])
def test_a_seam_compares_what_both_chunks_have_for_the_same_time(playing: str) -> None:
    """Of a policy whose chunks agree, whose commands are late where they are played naively."""

    def agrees(inference: Inference, variant: int) -> Mapping[str, np.ndarray]:
        made = np.zeros((1, LENGTH, 3))
        made[..., 0] = inference.captured_ns * 1e-9 + np.arange(LENGTH) * TICK_NS * 1e-9
        return {"action": made}

    seen: list[Seam] = []

    class Watching(Periodic):
        def decide(self, situation: Situation) -> Decision:
            if situation.seam is not None:
                seen.append(situation.seam)
            assert situation.coming.again == (playing == "naive")
            return super().decide(situation)

    cycle = cycle_of(lambda *_: Course(0, 0.2), controller=Watching(), playing=playing, make=agrees)
    for tick in range(60):
        cycle.tick(OBSERVATION, tick * TICK_NS, tick * TICK_NS)
    assert len({seam.chunk for seam in seen}) >= 3
    assert max(float(seam.difference.max()) for seam in seen) < 1e-9
    due = cycle.tick(OBSERVATION, 60 * TICK_NS, 60 * TICK_NS).command
    assert due is not None
    late = 60 * TICK_NS * 1e-9 - due[0]
    assert late == pytest.approx(0.2 if playing == "naive" else 0.0)


def test_the_price_minimises_what_it_is_asked_to() -> None:
    stale = situation(age_s=2.0)
    for minimise, variant in (("cloud-time", 0), ("edge-time", 2), ("compute", 2)):
        allowed = tables(eps=np.full(2, 0.1))
        decision = Priced(ROUTES, allowed, minimise).decide(stale)
        assert isinstance(decision, Request)
        assert decision.variant == variant
    with pytest.raises(InputError, match="to minimise"):
        Priced(ROUTES, None, "beauty")


def test_the_error_that_is_allowed_can_be_said() -> None:
    said = make_controller("price", ROUTES, tables=tables(), eps=0.1)
    kept = tables(eps=np.full(2, 0.1))
    for age in np.arange(0.0, 2.0, 0.1):
        one = situation(age_s=age)
        assert said.decide(one) == Priced(ROUTES, kept).decide(one)
    for held, eps in ((tables(), 0.0), (tables(), math.nan), (None, 0.1)):
        with pytest.raises(InputError, match="above 0"):
            Priced(ROUTES, held, eps=eps)


def test_without_tables_age_alone_decides_and_that_is_said(caplog: Any) -> None:
    controller = make_controller("price", ROUTES, most_age_s=0.5)
    assert "age alone" in caplog.text
    kept = controller.decide(situation(age_s=0.2))
    assert kept == Keep("no tables, age alone")
    asked = controller.decide(situation(age_s=0.4))
    assert isinstance(asked, Request)
    assert "age alone" in asked.why


def test_a_new_chunk_measures_the_tables() -> None:
    controller = Priced(ROUTES, tables())
    age = 0.4
    assert isinstance(controller.decide(situation(age_s=age)), Keep)
    for number in range(60):  # every seam is worse than what the tables say
        seam = Seam(number, 0.2, np.full(3, 0.5))
        controller.decide(situation(age_s=0.1, seam=seam))
    assert isinstance(controller.decide(situation(age_s=age)), Request)
    controller.decide(
        situation(seam=Seam(99, 0.2, np.full(7, 0.5)))
    )  # of another width: no measure


def test_tables_come_back_from_their_file(tmp_path: Path) -> None:
    path, written = tmp_path / "actions.npz", tables()
    write_tables(path, written)
    read = read_tables(path)
    assert read.variants == written.variants
    assert read.motion == written.motion
    assert read.rapid == written.rapid
    for age in (0.0, 0.07, 0.5, 5.0):
        assert read.stale(1, age) == pytest.approx(0.02 * age / 0.05)
    assert [read.bin(risk) for risk in (0.0, 0.4, 0.6)] == [0, 0, 1]


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("format", np.array(9)),
        ("variants", np.zeros(3)),
        ("e_stale", np.zeros((4, 9))),
        ("e_variant", np.zeros((3, 3))),
        ("eps", np.array([np.nan, 1.0])),
        ("period_s", np.array(0.0)),
        ("scale", np.zeros(3)),
        ("edges", np.array(["a"])),
        ("risk_weights", np.zeros(3)),
        ("motion_floors", np.zeros(2)),
        ("rapid", None),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, name: str, array: Any) -> None:
    path = tmp_path / "actions.npz"
    write_tables(path, tables())
    found = read_npz(path)
    if array is None:
        del found[name]
    else:
        found[name] = array
    path.write_bytes(npz_bytes(found))
    with pytest.raises(BundleError, match="calibrate-actions"):
        read_tables(path)
    path.write_bytes(b"PK\3\4 no")
    with pytest.raises(BundleError, match="cannot be read"):
        read_tables(path)


def test_names() -> None:
    for name in set(CONTROLLERS) - {"dyq"}:  # see test_precision_switch.py
        made = make_controller(name, ROUTES, tables=tables(), entropy=True)
        assert made.decide(situation()) is not None
    assert make_controller("rapid", ROUTES, critical="cloud")._critical == 2  # type: ignore[attr-defined]
    for name, options, said in (
        ("rapit", {}, "did you mean rapid"),
        ("rapid", {"hig": 1}, "did you mean high"),
        ("rapid", {"critical": "clod"}, "did you mean cloud"),
        ("entropy", {}, "needs an output"),
        ("risk", {}, "needs a fitted model"),
        ("price", {"tables": tables(variants=("a", "b", "c"))}, "hold no variant"),
        ("price", {"variants": ["x"]}, "no variant 'x'"),
    ):
        with pytest.raises(InputError, match=said):
            make_controller(name, ROUTES, **options)
