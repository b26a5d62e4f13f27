"""The timeline: what Perfetto takes of Chrome's trace format."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.commands import Vlacut
from support.deployments import DIGEST, crossing_deployment, served, serving_thread
from support.programs import observation

from vlacut.runtime.edge.report import StepReport
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.edge.timeline import _rows, trace_json


def checked(text: str) -> dict[str, list[dict[str, Any]]]:
    """Slices by thread, each of which is named and holds none that overlap another by a part."""
    trace = json.loads(text)
    assert trace["displayTimeUnit"] in ("ms", "ns")
    names: dict[int, str] = {}
    slices: dict[str, list[dict[str, Any]]] = {}
    for event in trace["traceEvents"]:
        assert event["ph"] in ("M", "X")
        assert event["pid"] > 0
        if event["ph"] == "M" and event["name"] == "thread_name":
            names[event["tid"]] = event["args"]["name"]
        elif event["ph"] == "X":
            assert event["dur"] >= 0
            slices.setdefault(names[event["tid"]], []).append(event)
    for shown in slices.values():
        ends = [round(1e3 * (each["ts"] + each["dur"])) for each in shown]
        starts = [round(1e3 * each["ts"]) for each in shown]
        assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))
    return slices


def test_frames_on_the_link_at_once_are_rows_of_their_own() -> None:
    program, plan, engines = crossing_deployment()
    reports: list[StepReport] = []
    with (
        served(plan, engines) as server,
        EdgeSession(plan, DIGEST, engines, server.address) as policy,
    ):
        for _ in range(20):
            policy.step(observation(program))
            reports.append(policy.last)
    slices = checked(trace_json(reports))
    assert {name.split()[0] for name in slices} == {"steps", "edge", "uplink", "cloud", "downlink"}
    assert len(slices["steps"]) == 20
    for track in ("edge", "uplink", "cloud", "downlink"):
        shown = sum(len(each) for name, each in slices.items() if name.split()[0] == track)
        assert shown == sum(len(report.spans[track]) for report in reports)


SPANS = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 30)), max_size=30)


@given(SPANS)
def test_rows_hold_everything_and_as_few_as_there_are_at_once(spans: list[tuple[int, int]]) -> None:
    slices = sorted((start, start + lasts, "frame", {}) for start, lasts in spans)
    rows = _rows(slices)
    assert sorted(itertools.chain(*rows)) == slices
    for row in rows:
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(row))
    most = max((sum(a <= at < b for a, b, *_ in slices) for at, *_ in slices), default=0)
    assert len(rows) <= most + sum(a == b for a, b, *_ in slices)


def test_a_run_that_fails_leaves_the_timeline_of_its_steps(
    vlacut: Vlacut, split_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vlacut as library

    server = library.serve(split_bundle)
    calls = itertools.count()
    step = EdgeSession.step

    def failing(self: EdgeSession, *words: Any) -> Any:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return step(self, *words)

    monkeypatch.setattr(EdgeSession, "step", failing)
    with serving_thread(server):
        words = ("run", split_bundle, "--cloud", "{}:{}".format(*server.address), "--steps", 9)
        status, out, err = vlacut(*words, "--timeline", tmp_path / "t.json", "--json")
    assert status == 1
    assert json.loads(out)["error"]["kind"] == "Interrupted"
    assert "vlacut: interrupted; nothing was half-written" in err.splitlines()
    assert len(checked((tmp_path / "t.json").read_text())["steps"]) == 3


@pytest.mark.parametrize("where", ["/dev/full"])
def test_a_timeline_that_cannot_be_written_is_one_line(
    vlacut: Vlacut, split_bundle: Path, where: str
) -> None:
    import vlacut as library

    server = library.serve(split_bundle)
    with serving_thread(server):
        words = ("run", split_bundle, "--cloud", "{}:{}".format(*server.address))
        status, out, err = vlacut(*words, "--timeline", where, "--json")
    assert status == 2
    assert json.loads(out)["error"]["message"] == "No space left on device"
    assert "vlacut: No space left on device" in err.splitlines()  # the server logs there too
