"""The steps of a timeline as a run, as `vlacut run --record` would have written it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vlacut.errors import InputError
from vlacut.runtime.edge.recorded import Run, checked_run
from vlacut.runtime.edge.timeline import STEPS

_MOST_BYTES = 1 << 30  # of a file: a million steps


def read_timeline(path: Path) -> Run:
    """The run of a file of `vlacut run --timeline`. Raises InputError saying what is wrong."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: has more than {_MOST_BYTES >> 30} GiB; record fewer steps")
        trace = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    try:
        arrays = _arrays(trace["otherData"], _steps(trace["traceEvents"]))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{path}: holds no steps of a bundle; write it with vlacut run --timeline"
        ) from error
    return checked_run(path, arrays)


def _steps(events: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The slices of steps, in order; their track has several rows where steps overlap."""
    rows = {
        event["tid"]
        for event in events
        if event["ph"] == "M"
        and event["name"] == "thread_name"
        and event["args"]["name"].split()[0] == STEPS
    }
    found = [event for event in events if event["ph"] == "X" and event["tid"] in rows]
    return sorted(found, key=lambda event: float(event["ts"]))


def _arrays(about: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    said, parts, variants = [step["args"] for step in steps], about["parts"], about["variants"]
    began = np.array([_nanoseconds(step["ts"]) for step in steps], np.int64)
    returned = np.array([_nanoseconds(step["ts"] + step["dur"]) for step in steps], np.int64)
    ages = np.array([_nanoseconds(one["age_ms"] * 1e3) for one in said], np.int64)
    return {
        "model": np.array(about["model"]),
        "digest": np.array(about["bundle"]),
        "variants": np.array(variants),
        "parts": np.array(parts),
        "began_ns": began,
        "returned_ns": returned,
        "captured_ns": returned - ages,
        "variant": np.array([variants.index(one["variant"]) for one in said]),
        **{name: np.array([one[name] for one in said]) for name in ("source", "reason", "state")},
        "part_s": np.array([[one["part_ms"].get(name, 0.0) for name in parts] for one in said])
        * 1e-3,
        "codec_s": np.array([one["codec_ms"] for one in said]) * 1e-3,
        "link_s": np.array([one["link_ms"] for one in said]) * 1e-3,
        "moved": np.array([[one["bytes_up"], one["bytes_down"]] for one in said]),
        "expected": np.array([one["expected"] for one in said]),
        "overrun_s": np.array([one["overrun_ms"] for one in said]) * 1e-3,
    }


def _nanoseconds(microseconds: float) -> int:
    return round(microseconds * 1e3)
