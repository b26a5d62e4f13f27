"""The timeline of control steps, as a trace that Perfetto (ui.perfetto.dev) opens.

The format is Chrome's trace events: complete events (`ph` X) with times in microseconds, and
metadata events (`ph` M) that name the tracks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vlacut.runtime.report import StepReport

_TRACKS = ("steps", "edge", "uplink", "cloud", "downlink")


def write_timeline(path: Path, reports: Sequence[StepReport]) -> None:
    """Write the trace of some steps, on the edge's clock."""
    events = [*_names(), *(event for report in reports for event in _events(report))]
    path.write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}))


def _names() -> Iterator[dict[str, Any]]:
    for number, track in enumerate(_TRACKS):
        yield {
            "name": "thread_name",
            "ph": "M",
            "pid": 0,
            "tid": number,
            "args": {"name": track},
        }


def _events(report: StepReport) -> Iterator[dict[str, Any]]:
    about = {
        "variant": report.variant,
        "source": report.source.value,
        "reason": report.reason,
        "age_ms": report.age_s * 1e3,
        "clock_error_ms": report.clock_error_s * 1e3,
        "bytes_up": report.bytes_up,
        "bytes_down": report.bytes_down,
        "late": report.late,
    }
    yield _event(f"step {report.step}", "steps", report.began_ns, report.returned_ns, about)
    for track, spans in report.spans.items():
        for span in spans:
            yield _event(span.name, track, span.start_ns, span.end_ns, {"step": report.step})


def _event(name: str, track: str, start: int, end: int, about: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "ph": "X",
        "pid": 0,
        "tid": _TRACKS.index(track),
        "ts": start / 1e3,
        "dur": max(0, end - start) / 1e3,
        "args": about,
    }
