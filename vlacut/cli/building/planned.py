"""What `plan` and `compile` share: the target that is asked for, and what was planned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from vlacut.cli.named import note
from vlacut.cli.show.candidates import candidates_json
from vlacut.cli.show.output import (
    console,
    milliseconds,
    print_json,
)
from vlacut.cli.show.progress import Stages
from vlacut.cli.show.report import plan_json, show_plan
from vlacut.cli.show.ways import ways_json
from vlacut.compiler.planning import Planned
from vlacut.compiler.target import Target

MODEL_HELP = """
    MODEL is an .onnx file, a .pt2 file, a folder with a program.toml, file.py:function, lerobot:DIR
    or openpi:DIR of a checkpoint, or a model of the zoo (NAME or NAME:PRESET; see vlacut models).
"""


def checked_target(pipeline: str, asked: dict[str, Any]) -> Target:
    """What is asked for, checked; UsageError for an option that nothing would heed."""
    if pipeline and asked["costs"]:
        raise click.UsageError("--costs is for the default pipeline; name measured-cost in yours")
    target = Target(**asked)
    for option, needed, there in (
        ("quantile", "--link-trace", bool(target.link_trace)),
        ("bandwidth", "--pool", target.pool != "none"),
        ("pool_engines", "--pool", target.pool != "none"),
        ("coverage", "--calibration", bool(target.calibration)),
        ("draft_table", "--draft or --minimise age", target.asks_for_a_way),
    ):
        source = click.get_current_context().get_parameter_source(option)
        if source is not click.core.ParameterSource.DEFAULT and not there:
            raise click.UsageError(f"--{option.replace('_', '-')} goes with {needed}")
    target.check()
    return target


def warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


def show_planned(
    planned: Planned, stages: Stages, as_json: bool, more: dict[str, Any] | None = None
) -> None:
    warn(planned.warnings)
    for line in planned.notes:
        note(line)
    if as_json:
        seconds = {timing.name: timing.seconds for timing in planned.timings}
        extra = {
            "pipeline": planned.pipeline,
            "pass_s": seconds,
            "stage_s": stages.seconds,
            "warnings": planned.warnings,
            "notes": planned.notes,
            "converted": planned.converted,
            "measured": planned.measured,
            "interval_ms": [bound * 1e3 for bound in planned.interval_s],
            "candidates": candidates_json(planned.considered),
            "ways": ways_json(planned.ways),
        }
        print_json({**plan_json(planned.plan), **extra, **(more or {})})
        return
    out = console()
    low, high = (milliseconds(seconds) for seconds in planned.interval_s)
    notes = [str(stages), f"a step takes {low} to {high} ms: 90 % interval of the machines' models"]
    if planned.converted:
        notes.append(f"converted for the back end: {planned.converted}")
    if planned.measured:
        notes.append(planned.measured)
    show_plan(out, planned.plan, notes, planned.ways)
