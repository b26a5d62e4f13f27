"""What `run` shows of the steps it made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vlacut.cli.show.output import console, milliseconds, size, table
from vlacut.cli.show.report import why
from vlacut.plans.plan import Plan
from vlacut.runtime.edge.report import Source, StepReport


def run_json(
    reports: Sequence[StepReport], action: Mapping[str, np.ndarray], error: float | None
) -> dict[str, Any]:
    """The object of `run --json`; its times are in milliseconds.

    Args:
        reports: of the steps.
        action: of the last one, by name.
        error: the largest absolute difference of an action from the uncut model's; None if none
            was measured.
    """
    return {
        "steps": [_step_json(report) for report in reports],
        "action": {name: array.tolist() for name, array in action.items()},
        "max_abs_error": error,
    }


def _step_json(report: StepReport) -> dict[str, Any]:
    return {
        "step": report.step,
        "variant": report.variant,
        "precision": report.precision,
        "source": report.source.value,
        "reason": report.reason,
        "state": report.state.value,
        "again": report.again,
        "retries": report.retries,
        "warming": report.warming,
        "latency_ms": report.latency_s * 1e3,
        "age_ms": report.age_s * 1e3,
        "edge_ms": {name: spent * 1e3 for name, spent in report.edge_s.items()},
        "device_ms": {name: spent * 1e3 for name, spent in report.device_s.items()},
        "cloud_ms": {name: spent * 1e3 for name, spent in report.cloud_s.items()},
        "edge_codec_ms": report.edge_codec_s * 1e3,
        "cloud_codec_ms": report.cloud_codec_s * 1e3,
        "network_ms": report.network_s * 1e3,
        "uplink_ms": report.uplink_s * 1e3,
        "downlink_ms": report.downlink_s * 1e3,
        "clock_error_ms": report.clock_error_s * 1e3,
        "bytes_up": report.bytes_up,
        "bytes_down": report.bytes_down,
        "frames": report.frames,
        "late": report.late,
        "overrun_ms": report.overrun.seconds * 1e3 if report.overrun else 0.0,
        "overrun_by": (report.overrun.engine or "runtime") if report.overrun else "",
        "expected": {
            "up_bytes_per_s": report.link.wire_up,
            "down_bytes_per_s": report.link.wire_down,
            "rtt_ms": report.link.rtt * 1e3,
        },
    }


def show_steps(plan: Plan, reports: Sequence[StepReport], error: float | None) -> None:
    """Print the table of `run`: medians, 95 % quantiles and the longest, in milliseconds; what came
    instead of the plan's variant, what was late, and `error` as in `run_json`.
    """
    out = console()
    rows = [
        (part.name, part.side.value, part.label, why(part, plan), *_spread(times))
        for part in plan.parts
        if (times := [seconds for report in reports if (seconds := _spent(report, part.name))])
    ]
    widest = max(reports, key=lambda report: report.frames)
    crossing = f"{size(widest.bytes_up)} up, {size(widest.bytes_down)} down, {widest.frames} frames"
    codecs = [report.edge_codec_s + report.cloud_codec_s for report in reports]
    if any(codecs):
        rows.append(("codecs", "both", "what crosses, coded and decoded", "", *_spread(codecs)))
    rows.append(("network", "link", crossing, "", *_spread([item.network_s for item in reports])))
    rows.append(("step", "", "observation to action", "", *_spread([r.latency_s for r in reports])))
    planned = f"why there ({plan.edge}, {plan.cloud}, {plan.link})"
    columns = ("part", "side", "what", planned, "median ms", "p95 ms", "max ms")
    out.print(table(f"{len(reports)} control steps, measured here", columns, rows, left=4))
    _show_fallbacks(reports)
    _show_overruns(reports)
    rules = Counter(report.state for report in reports)
    if plan.states:
        said = (f"{rule} in {count}" for rule, count in sorted(rules.items()))
        out.print(f"state: {', '.join(said)} of {len(reports)} steps")
    if plan.warming:
        ages = [report.age_s for report in reports if not report.warming]
        aged = f", else of age {milliseconds(float(np.median(ages)))} ms" if ages else ""
        warm = sum(report.warming for report in reports)
        out.print(f"warming: {warm} of {len(reports)} steps had no action yet{aged}")
    if error is not None:
        out.print(f"\nlargest difference of the action from the uncut model's: {error:g}")


def _show_fallbacks(reports: Sequence[StepReport]) -> None:
    fallen = Counter(report.source for report in reports if report.source is not Source.CHOSEN)
    for source, count in fallen.items():
        first = next(report for report in reports if report.source is source)
        console().print(f"\n{count} of {len(reports)} actions {source}, first since {first.reason}")


def _show_overruns(reports: Sequence[StepReport]) -> None:
    late = [report.overrun for report in reports if report.overrun]
    if late:
        worst = max(late, key=lambda overrun: overrun.seconds)
        count = f"{len(late)} of {len(reports)} steps returned late, the latest"
        console().print(f"\n{count} {worst}", markup=False)


def _spent(report: StepReport, part: str) -> float:
    return report.edge_s.get(part, 0.0) + report.cloud_s.get(part, 0.0)


def _spread(seconds: Sequence[float]) -> tuple[str, str, str]:
    median, high = np.quantile(seconds, (0.5, 0.95))
    return milliseconds(float(median)), milliseconds(float(high)), milliseconds(max(seconds))
