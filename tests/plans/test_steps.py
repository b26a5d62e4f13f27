"""The walk of a schedule, held against an interpreter that knows nothing but the words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.deployments import deployment

from vlacut.hardware import Side
from vlacut.plans.instructions import (
    Instruction,
    Loop,
    Move,
    Run,
    Transfer,
    Trips,
    flatten,
    runs,
    steps,
)
from vlacut.runtime.wire.route import Compute, Rename, Route, Send

KEYS = st.sampled_from(["a", "b", "c", "d"])
SIDES = st.sampled_from(Side)
TRIPS = st.sampled_from(Trips)
PLAIN = st.one_of(
    st.builds(Run, st.sampled_from(["p", "q", "r"])),
    st.builds(Transfer, st.tuples(KEYS), SIDES, TRIPS),
    st.builds(Move, KEYS, KEYS, st.tuples(SIDES), TRIPS),
)
LOOPS = st.builds(Loop, st.integers(1, 5), st.lists(PLAIN, max_size=5).map(tuple))
SCHEDULES = st.lists(st.one_of(PLAIN, LOOPS), max_size=8)


def carried_out(schedule: list[Instruction]) -> Iterator[Run | Transfer | Move]:
    """The naive interpreter: a loop counts down what is left of it."""
    for item in schedule:
        left, body = (item.trips, item.body) if isinstance(item, Loop) else (1, (item,))
        while left:
            left -= 1
            for inner in body:
                words = "all" if isinstance(inner, Run) else inner.trips.value
                if words == "last" and left:
                    continue
                if words == "before-last" and not left:
                    continue
                yield inner


@given(SCHEDULES)
def test_steps_are_what_the_naive_interpreter_does(schedule: list[Instruction]) -> None:
    walked = list(steps(schedule))
    flat = flatten(schedule)
    assert [step.instruction for step in walked] == list(carried_out(schedule))
    assert all(flat[step.position] is step.instruction for step in walked)
    assert all(0 <= step.trip < step.trips for step in walked)
    places = [(step.position, step.trip) for step in walked]
    assert len(set(places)) == len(places)  # a frame is named by these two


@given(SCHEDULES)
def test_runs_are_counted_as_they_happen(schedule: list[Instruction]) -> None:
    happened = Counter(done.part for done in carried_out(schedule) if isinstance(done, Run))
    assert list(runs(schedule).items()) == list(happened.items())


@given(SCHEDULES, st.sets(st.tuples(KEYS, SIDES)))
def test_the_trips_between_hold_nothing_new(
    schedule: list[Instruction], there: set[tuple[str, Side]]
) -> None:
    """Who holds what, and whether it can be carried out, is known without them."""
    whole = holds([step.instruction for step in steps(schedule)], there)
    assert holds([step.instruction for step in steps(schedule, between=False)], there) == whole


def holds(
    done: list[Run | Transfer | Move], there: set[tuple[str, Side]]
) -> set[tuple[str, Side]] | None:
    """Keys by side at the end; None if something was missing. A run makes its part's name."""
    held = set(there)
    for one in done:
        if isinstance(one, Run):
            held.add((one.part, Side.EDGE))
            continue
        if isinstance(one, Transfer):
            needs = {(key, one.source) for key in one.tensors}
            made = {(key, one.source.other) for key in one.tensors}
        else:
            needs = {(one.source, side) for side in one.sides}
            made = {(one.target, side) for side in one.sides}
        if not needs <= held:
            return None
        held |= made
    return held


@pytest.mark.parametrize("seed", range(12))
def test_the_routes_of_both_sides_are_that_walk(seed: int) -> None:
    """Each does what is its own of the naive interpreter's list, and misses nothing of it."""
    _, plan, _ = deployment(seed)
    expected: dict[Side, list[object]] = {side: [] for side in Side}
    sent: dict[Side, int] = dict.fromkeys(Side, 0)
    for one in carried_out(list(plan.variants[0].schedule)):
        if isinstance(one, Run):
            expected[plan.part[one.part].side].append(one.part)
        elif isinstance(one, Transfer):
            expected[one.source].append(one.tensors)
            sent[one.source] += 1
        else:
            for side in one.sides:
                expected[side].append((one.source, one.target))
    for side in Side:
        route = Route(plan, side, 0)
        assert [_done(stop) for stop in route.stops] == expected[side]
        assert len(route.due) == sent[side.other]


def _done(stop: Send | Compute | Rename) -> object:
    if isinstance(stop, Send):
        return stop.tensors
    return stop.part.name if isinstance(stop, Compute) else (stop.source, stop.target)
