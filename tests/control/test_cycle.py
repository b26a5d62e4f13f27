"""The cycle of the control loop, in virtual time: what holds whatever inferences and callers do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.control import INPUTS, LENGTH, OBSERVATION, OUTPUT, TICK_NS, cycle_of, stamped

from vlacut.control.arrivals import FAILED, OVER, SUPERSEDED
from vlacut.control.executors import EXECUTORS
from vlacut.control.inferring.inference import Inference
from vlacut.control.inferring.virtual import Course
from vlacut.control.report import CommandReport, tally
from vlacut.control.situation import Decision, Keep, Request, Situation
from vlacut.control.ways.chunk import Chunk, ChunkReader, ChunkSpec
from vlacut.control.ways.playing import ALIGNED, BLEND, ENSEMBLE, NAIVE, PLAYINGS, make_playing

TIMES = st.lists(st.tuples(st.floats(0.0, 1.5), st.booleans()), min_size=1, max_size=12)
# Between ticks: on time, jittered by less than half a period, or a caller that is late.
GAPS = st.lists(
    st.one_of(st.just(0.0), st.floats(-0.2, 0.2), st.floats(0.5, 12.0)), min_size=1, max_size=40
)


class Scripted:
    """Does as it was told, tick after tick."""

    def __init__(self, asks: Sequence[tuple[bool, bool]]) -> None:
        self._asks = asks

    def decide(self, situation: Situation) -> Decision:
        asks, preempts = self._asks[situation.tick % len(self._asks)]
        return Request(preempt=preempts) if asks else Keep()

    def reset(self) -> None:
        pass


def run(cycle: object, gaps: Sequence[float], lag_ns: int = 0) -> list[CommandReport]:
    reports, at = [], 0
    for number in range(len(gaps) * 3):
        at += TICK_NS if not number else max(1, round(TICK_NS * (1 + gaps[number % len(gaps)])))
        reports.append(cycle.tick(OBSERVATION, at, at - lag_ns))  # type: ignore[attr-defined]
    return reports


def course_of(times: Sequence[tuple[float, bool]]) -> object:
    def course(inference: Inference, now_ns: int) -> Course:
        seconds, fails = times[inference.number % len(times)]
        return Course(0, seconds, "out of order" if fails else "")

    return course


@given(TIMES, GAPS, st.sampled_from(PLAYINGS), st.sampled_from(("sync", "async")))
def test_every_command_is_that_of_its_rule(times, gaps, playing, executor) -> None:
    cycle = cycle_of(course_of(times), executor=executor, playing=playing)
    reports = run(cycle, gaps, lag_ns=TICK_NS // 3)
    came: dict[int, tuple[int, int]] = {}  # when a chunk was first in force, and at which index
    for report in reports:
        if report.command is None or report.starved:
            assert report.starved
            continue
        assert report.inference is not None
        since, first = came.setdefault(report.inference, (report.at_ns, report.index))
        spent = (report.at_ns - since) / TICK_NS
        assert abs(report.index - first - spent) <= 0.5 + 1e-9  # neither skips nor repeats else
        captured = report.command[0] if playing in (NAIVE, ALIGNED) else None
        if captured is not None:
            assert (captured, report.command[1]) == (report.captured_ns, report.index)
        assert report.command[2] == report.inference  # switched, never blended
        if playing == NAIVE:
            assert first == 0
        elif since == report.at_ns:
            due = (report.at_ns - stamp_of(reports, report)) / TICK_NS
            assert abs(report.index - due) <= 0.5 + 1e-9


def stamp_of(reports: Sequence[CommandReport], report: CommandReport) -> int:
    """When the observation of the chunk in force was captured."""
    asked = next(one for one in reports if one.asked == report.inference)
    return asked.at_ns - TICK_NS // 3


@given(TIMES, GAPS, st.sampled_from(PLAYINGS), st.integers(0, 3 * TICK_NS))
def test_age_is_never_understated(times, gaps, playing, lag_ns) -> None:
    cycle = cycle_of(course_of(times), playing=playing)
    reports = run(cycle, gaps, lag_ns)
    captured = {one.asked: one.at_ns - lag_ns for one in reports if one.asked is not None}
    for report in reports:
        if report.command is not None:
            shares = report.chunks or (report.inference,)
            oldest = min(captured[number] for number in shares)
            assert report.age_s >= (report.at_ns - oldest) * 1e-9 - 1e-12
            # Blended or not, a number that an observation has a share in is not newer than said.
            assert report.captured_ns <= report.command[0] + 1e-3


@given(TIMES, st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=9), GAPS)
def test_the_chunk_of_a_superseded_request_is_never_used(times, asks, gaps) -> None:
    cycle = cycle_of(course_of(times), controller=Scripted(asks))
    reports = run(cycle, gaps)
    superseded: set[int] = set()
    in_flight = None
    for report in reports:
        wants, preempts = asks[report.tick % len(asks)]
        if wants and preempts and in_flight is not None and report.in_flight == in_flight:
            superseded.add(in_flight)
        in_flight = report.in_flight
        assert report.inference not in superseded
        assert not superseded.intersection(report.chunks)


def test_a_preempting_request_begins_when_the_one_in_flight_has_ended() -> None:
    asks = [(True, False), (False, False), (True, True), *[(False, False)] * 20]
    cycle = cycle_of(lambda inference, _: Course(0, 0.2), controller=Scripted(asks))
    reports = run(cycle, [0.0])[:3] + run(cycle, [0.0] * 5)
    assert [one.asked for one in reports[:4]] == [0, None, None, None]
    later = [one for one in reports if one.dropped == SUPERSEDED]
    assert [one.asked for one in later] == [1]
    assert later[0].at_ns  # its observation is that of the tick that began it
    first = next(one for one in reports if one.command is not None)
    assert first.inference == 1
    assert first.command[0] == later[0].at_ns


def test_sync_plays_every_command_once_and_holds_while_it_thinks() -> None:
    cycle = cycle_of(lambda *_: Course(0, 0.2), executor="sync")
    reports = run(cycle, [0.0] * 20)
    played = [report.index for report in reports if not report.starved]
    assert played == [index % LENGTH for index in range(len(played))]
    starved = [report for report in reports if report.starved and report.command is not None]
    assert all(report.command[1] == LENGTH - 1 for report in starved)
    assert len(starved) in (8, 12)  # four ticks after each chunk


def test_async_asks_just_in_time() -> None:
    cycle = cycle_of(lambda *_: Course(0, 0.2), expected=(0.2,))
    reports = run(cycle, [0.0] * 40)[5:]
    assert not any(report.starved for report in reports)
    asked = [report.tick for report in reports if report.asked is not None]
    # It has 16 commands, the inference takes four, and half a tick is kept for jitter.
    assert set(np.diff(asked)) == {LENGTH - 5}
    assert max(report.age_s for report in reports) < LENGTH * TICK_NS * 1e-9


def test_a_chunk_that_is_over_when_it_comes_is_not_played() -> None:
    cycle = cycle_of(lambda *_: Course(0, 1.0), playing=ALIGNED)
    reports = run(cycle, [0.0] * 20)
    assert all(report.command is None for report in reports)
    assert {report.dropped for report in reports} == {"", OVER}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_are_never_commands(bad: float) -> None:
    def make(inference: Inference, variant: int) -> dict[str, np.ndarray]:
        made = dict(stamped(inference, variant))
        if inference.number % 2:
            made["action"][0, 7, 1] = bad
        return made

    cycle = cycle_of(lambda *_: Course(0, 0.1), make=make)
    reports = run(cycle, [0.0] * 30)
    assert {report.inference % 2 for report in reports if report.inference is not None} == {0}
    assert {report.dropped for report in reports} == {"", FAILED}
    assert "not finite" in cycle.error or not cycle.error


def test_blended_columns_have_no_jump_at_a_seam() -> None:
    def make(inference: Inference, variant: int) -> dict[str, np.ndarray]:
        return {"action": np.full((1, LENGTH, 3), float(inference.number))}

    reports = run(cycle_of(lambda *_: Course(0, 0.2), make=make, playing=BLEND), [0.0] * 20)
    commands = np.array([one.command for one in reports if one.command is not None])
    blended, switched = np.abs(np.diff(commands[:, 0])), np.abs(np.diff(commands[:, 2]))
    assert switched.max() == 1
    assert blended.max() == pytest.approx(0.2)  # four ticks between the old chunk and the new one


def test_temporal_ensembling_is_that_of_act() -> None:
    reader = ChunkReader(ChunkSpec("action", switched=(2,)), OUTPUT, INPUTS, TICK_NS * 1e-9)
    playing = make_playing(ENSEMBLE, reader)
    numbers = np.random.default_rng(0)
    chunks = [numbers.standard_normal((LENGTH, 3)) for _ in range(20)]
    for tick, commands in enumerate(chunks):
        now = tick * TICK_NS
        assert playing.adopt(Chunk(tick, commands, now, now, tick, 0, "chosen"), now)
        due = playing.due(now)
        assert due is not None
        alive = range(max(0, tick - LENGTH + 1), tick + 1)
        weights = np.exp(-0.01 * np.arange(len(alive)))
        mean = weights @ [chunks[one][tick - one] for one in alive] / weights.sum()
        np.testing.assert_allclose(due.values[:2], mean[:2], rtol=1e-12)
        assert due.values[2] == commands[0, 2]
        assert due.captured_ns == alive[0] * TICK_NS


def test_starving_stops_what_moves_and_says_so() -> None:
    def make(inference: Inference, variant: int) -> dict[str, np.ndarray]:
        ramp = np.arange(LENGTH, dtype=float)[:, None] * np.ones(3)
        return {"action": ramp[None]}

    def course(inference: Inference, now_ns: int) -> Course:
        return Course(0, 0.05 if not inference.number else 1e9)

    for rule, ends in (("hold", 15.0), ("stop", 16.0)):
        reports = run(cycle_of(course, make=make, starve=rule), [0.0] * 20)
        last = reports[-1]
        assert last.starved
        assert last.command[0] == pytest.approx(ends)  # a half, a quarter, ... of a movement of 1
        assert last.command[2] == 15.0
        assert last.age_s == pytest.approx((last.at_ns - TICK_NS) * 1e-9)
        assert tally(reports).starved == sum(report.starved for report in reports) > 40


def test_an_episode_s_chunks_end_with_it() -> None:
    cycle = cycle_of(lambda *_: Course(0, 0.2))
    run(cycle, [0.0] * 4)
    cycle.reset()
    reports = run(cycle, [0.0] * 4)
    numbers = {report.inference for report in reports}
    assert numbers.isdisjoint({0, 1}) or None in numbers
    assert reports[0].command is None


@pytest.mark.parametrize("name", EXECUTORS[:2])
def test_the_tally_counts_every_tick(name: str) -> None:
    reports = run(cycle_of(lambda *_: Course(0, 0.2), executor=name), [0.0] * 10)
    counted = tally(reports)
    assert counted.ticks == 30
    assert counted.commands == sum(report.command is not None for report in reports)
    assert counted.free == 1 - sum(report.asked is not None for report in reports) / 30
    assert counted.as_json()["age_ms"]["p99"] >= counted.as_json()["age_ms"]["mean"] > 0
