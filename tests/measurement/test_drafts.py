"""Drafts of tokens from those that were said before, and how many of them are right."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.commands import Vlacut
from support.cutting import Reference
from support.token_loops import prompts, token_program

import vlacut as package
from vlacut.bundle.draft_table import DraftTable, write_draft_table
from vlacut.compiler.driver import compile_program
from vlacut.compiler.planning import plan_program
from vlacut.compiler.target import Target
from vlacut.errors import BundleError, InputError, VlacutError
from vlacut.ir.program import Program
from vlacut.tensor.drafts import DraftSource, accepted, drafter, parse_draft, shifted

TARGET: dict[str, Any] = {
    "edge": "jetson-agx-orin",
    "cloud": "a100",
    "link": "1GB/s,0.1ms",
    "pin": ("*=edge",),
}


def right(source: str, steps: list[np.ndarray]) -> list[int]:
    """How many drafts of each step but the first are right."""
    formula, draft = drafter(parse_draft(source)), steps[0]
    found = []
    for said in steps:
        found.append(accepted(draft, said))
        draft = formula.follow(said)
    return found[1:]


def test_who_moves_evenly_is_drafted_by_its_velocity() -> None:
    steps = [np.array([[100 + 3 * number], [7], [50 - number]]) for number in range(12)]
    assert right("last", steps) == [0] * 11
    assert right("velocity", steps) == [0, *[3] * 10]
    assert right("kalman:1", steps)[-1] == 3


def test_a_filter_beats_the_last_tokens_where_these_are_noisy() -> None:
    """A filter that trusts its model averages away what is a bin to either side."""
    numbers = np.random.default_rng(1)
    steps = [
        np.array([[round(100 + 5 * number + numbers.normal(0, 0.4))]]) for number in range(200)
    ]
    found = {source: sum(right(source, steps)) for source in ("velocity", "kalman:0.001", "last")}
    assert found["kalman:0.001"] > found["velocity"] > found["last"]


def test_the_rest_of_a_chunk_is_what_was_not_played() -> None:
    """Three actions of two tokens, of which one was played: the last one comes again."""
    said = np.array([10, 11, 20, 21, 30])[:, None]
    moved = drafter(parse_draft("chunk:2")).follow(said)
    assert moved[:, 0].tolist() == [20, 21, 30, 21, 30]


@given(places=st.integers(1, 40), shift=st.integers(1, 60), width=st.integers(1, 50))
def test_every_draft_of_a_chunk_is_of_its_own_place_in_an_action(
    places: int, shift: int, width: int
) -> None:
    found = shifted(places, DraftSource("chunk", shift=shift, width=width))
    assert ((found >= 0) & (found < places)).all()
    ahead = np.arange(places) + shift - found
    assert (ahead % min(width, places) == 0).all()
    inside = np.arange(places) + shift < places
    assert (ahead[inside] == 0).all()


_NONE = (
    "",
    "chunk",
    "chunk:0",
    "chunk:-1",
    "chunk:a",
    "chunk:1:2:3",
    "kalman:0",
    "kalman:inf",
    "kalman:1e7",
)


@pytest.mark.parametrize("text", [*_NONE, "kalman:nan", "last:1", "input:2", "hope"])
def test_what_names_no_source_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"write last, velocity, kalman or kalman:RATIO"):
        parse_draft(text)


def test_an_input_is_its_callers() -> None:
    with pytest.raises(InputError, match="nothing to measure"):
        drafter(parse_draft("input"))


def one_layer() -> Program:
    return token_program(5, 3, layers=1, width=256)


@pytest.mark.slow  # three bundles and a run
def test_a_bundle_is_calibrated_and_drafts_where_that_pays(vlacut: Vlacut, tmp_path: Path) -> None:
    """What it sees stands still, so the tokens of the step before are all right."""
    bundle, episode, table, later = (tmp_path / name for name in ("b.vlacut", "e", "t", "c.vlacut"))
    package.compile(one_layer(), out=bundle, draft="last", **TARGET)
    words = ("run", bundle, "--rate", 200, "--chunk", "action,period=50ms")
    status, _, err = vlacut(*words, "--steps", 60, "--record", episode)
    assert status == 0, err
    made = ("calibrate-draft", bundle, episode, "-o", table)
    status, out, err = vlacut(*made, "--json", "--sources", "last, velocity,chunk:1")
    assert status == 0, err
    found = {one["draft"]: one for one in json.loads(out)["drafts"]}
    assert found["last"]["right"] == found["velocity"]["right"] == 3
    assert found["last"]["counts"] == [0, 0, 0, json.loads(out)["steps"]]
    status, out, _ = vlacut(*made)
    assert status == 0
    assert "3.00 of 3" in out

    asked = {**TARGET, "draft": "auto", "draft_table": str(table)}
    planned, written = compile_program(one_layer(), Target(**asked), later)
    (taken,) = [one for one in planned.ways if one.taken]
    assert (taken.draft, taken.passes) == ("last", 1)
    assert taken.age_s < planned.ways[0].age_s
    assert "draft{right=3.0}" in planned.pipeline
    assert written.draft_table_path is not None
    assert written.draft_table_path.read_bytes() == table.read_bytes()

    for more, said in (
        ({"draft": "kalman:7"}, "drafts 'kalman:7' were not measured"),
        ({"draft_table": ""}, "--draft auto chooses by --draft-table"),
        ({"draft_table": str(episode)}, "table of drafts"),
        ({"draft_table": str(later)}, "cannot be read"),
    ):
        with pytest.raises(VlacutError, match=said):
            Target(**{**asked, **more}).check()
    package.compile(one_layer(), out=tmp_path / "plain", **TARGET)
    status, _, err = vlacut("calibrate-draft", tmp_path / "plain", episode, "-o", table)
    assert status == 2
    assert "compile it with --draft last" in err


def test_what_is_never_right_does_not_pay(tmp_path: Path) -> None:
    """Nor is a table taken that does not add up."""
    wrong = DraftTable(trips=3, steps=9, episodes=1, counts={"velocity": (9, 0, 0, 0)})
    write_draft_table(tmp_path / "t", wrong)
    asked = {**TARGET, "minimise": "age", "draft_table": str(tmp_path / "t")}
    planned = plan_program(one_layer(), Target(**asked))
    names = [one.name for one in planned.ways]
    assert names == ["trip by trip", "2 in flight", "4 in flight", "drafts: velocity"]
    assert [one.name for one in planned.ways if one.taken] == ["trip by trip"]
    for counts in ((9, 0, 0), (8, 0, 0, 0), (10, -1, 0, 0)):
        with pytest.raises(BundleError, match="make it with calibrate-draft"):
            replace(wrong, counts={"last": counts})
    with pytest.raises(BundleError, match="write last"):
        replace(wrong, counts={"hope": (9, 0, 0, 0)})


@pytest.mark.parametrize("source", ["kalman:0.1", "chunk:1"])
def test_a_bundle_of_any_source_is_the_plain_program(source: str, tmp_path: Path) -> None:
    """Through the compiler, its check against the original, and the runtime."""
    program = token_program(4, 3, layers=1)
    compile_program(program, Target(**TARGET, draft=source), tmp_path / "b")
    reference = Reference(token_program(4, 3, layers=1))
    with package.connect(tmp_path / "b") as robot:
        for observed in [each for each in prompts(reference.program, 3) for _ in range(3)]:
            reference.reset()
            wanted = reference.step(observed)["action"]
            np.testing.assert_array_equal(robot.step(observed)["action"], wanted)
