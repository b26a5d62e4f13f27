"""The timeline of control steps, as a trace that Perfetto (ui.perfetto.dev) opens.

The format is Chrome's trace events: complete events (`ph` X) with times in microseconds, and
metadata events (`ph` M) that name the tracks and their order. Slices of a thread may lie in each
other, but not overlap otherwise (Perfetto's docs/reference/synthetic-track-event.md); frames on a
link do. So a track has as many rows as it needs, each a thread of the trace. Counters (`ph` C) are
tracks of numbers. What bundle the steps are of is in `otherData`, and the slice of a step has its
times by part, so that `vlacut report --timeline` can read the steps back (`timeline_run.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from vlacut.plans.plan import Plan
from vlacut.runtime.edge.report import StepReport

STEPS = "steps"
_TRACKS = (STEPS, "edge", "uplink", "cloud", "downlink")
_MOST_ROWS = 1000  # of a track; sets the tracks' order apart
_PROCESS = 1

Slice = tuple[int, int, str, dict[str, Any]]  # start and end in nanoseconds, name, arguments
Counter = tuple[int, str, float]  # when, in nanoseconds; of what; the number


def trace_json(
    reports: Sequence[StepReport],
    more: Mapping[str, Sequence[Slice]] | None = None,
    counters: Sequence[Counter] = (),
    about: Mapping[str, Any] | None = None,
) -> str:
    """The trace of some steps as JSON, on the edge's clock, in microseconds as the format has them.

    Args:
        reports: of the steps.
        more: slices of other tracks by name, above those of the steps; in nanoseconds.
        counters: numbers over time, in nanoseconds.
        about: what the steps are of, as `about_bundle` says it.
    """
    events: list[dict[str, Any]] = [_about("process_name", 0, name="vlacut")]
    tracks = {name: list(slices) for name, slices in (more or {}).items()}
    tracks |= {track: list(_slices(track, reports)) for track in _TRACKS}
    for place, (track, given) in enumerate(tracks.items()):
        slices = sorted(given, key=lambda one: one[:2])
        for row, shown in enumerate(_rows(slices)):
            thread = 1 + place * _MOST_ROWS + row
            events += [
                _about("thread_name", thread, name=f"{track} {row + 1}" if row else track),
                _about("thread_sort_index", thread, sort_index=thread),
                *(_event(thread, *each) for each in shown),
            ]
    events += [
        {"name": what, "ph": "C", "pid": _PROCESS, "ts": at / 1e3, "args": {what: number}}
        for at, what, number in counters
    ]
    known = {"otherData": dict(about)} if about else {}
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms", **known})


def about_bundle(plan: Plan, digest: bytes) -> dict[str, Any]:
    """What a trace says of the bundle that its steps are of."""
    return {
        "model": plan.program,
        "bundle": digest.hex(),
        "variants": [variant.name for variant in plan.variants],
        "parts": [part.name for part in plan.parts],
    }


def _slices(track: str, reports: Iterable[StepReport]) -> Iterator[Slice]:
    for report in reports:
        if track == STEPS:
            yield report.began_ns, report.returned_ns, f"step {report.step}", _of_step(report)
            continue
        for span in report.spans[track]:
            end = max(span.start_ns, span.end_ns)  # of the cloud: as its clock was estimated
            yield span.start_ns, end, span.name, {"step": report.step}


def _rows(slices: Iterable[Slice]) -> list[list[Slice]]:
    """Each slice in the first row whose last one has ended."""
    rows: list[list[Slice]] = []
    for each in slices:
        free = next((row for row in rows if row[-1][1] <= each[0]), None)
        if free is None:
            rows.append([each])
        else:
            free.append(each)
    return rows


def _of_step(report: StepReport) -> dict[str, Any]:
    return {
        "variant": report.variant,
        "source": report.source.value,
        "reason": report.reason,
        "state": report.state.value,
        "age_ms": report.age_s * 1e3,
        "clock_error_ms": report.clock_error_s * 1e3,
        "bytes_up": report.bytes_up,
        "bytes_down": report.bytes_down,
        "late": report.late,
        "overrun_ms": report.overrun.seconds * 1e3 if report.overrun else 0.0,
        "part_ms": {
            name: seconds * 1e3
            for name, seconds in (*report.edge_s.items(), *report.cloud_s.items())
        },
        "codec_ms": [report.edge_codec_s * 1e3, report.cloud_codec_s * 1e3],
        "link_ms": [report.uplink_s * 1e3, report.downlink_s * 1e3],
        "expected": [report.link.wire_up, report.link.wire_down, report.link.rtt],
    }


def _about(what: str, thread: int, **arguments: object) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": _PROCESS, "tid": thread, "args": arguments}


def _event(thread: int, start: int, end: int, name: str, about: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "cat": "vlacut",
        "ph": "X",
        "pid": _PROCESS,
        "tid": thread,
        "ts": start / 1e3,
        "dur": (end - start) / 1e3,
        "args": about,
    }
