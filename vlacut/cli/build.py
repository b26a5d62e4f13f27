"""`compile`, `plan` and `opt`: what needs the model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from vlacut.cli.candidates import candidates_json, show_candidates
from vlacut.cli.frontier import show_sweep, sweep_json, write_plot
from vlacut.cli.options import model_options, target_options
from vlacut.cli.output import Stages, console, json_option, milliseconds, print_json, progress_bar
from vlacut.cli.report import plan_json, show_plan
from vlacut.compiler import Planned, compile_program, plan_program
from vlacut.errors import InputError
from vlacut.frontends.checkpoint import load_weights, open_checkpoint
from vlacut.frontends.load import load_program
from vlacut.pipeline import parse_pipeline
from vlacut.printer import print_program
from vlacut.sweep import Axis, Point, parse_axis, sweep
from vlacut.target import Target

F = TypeVar("F", bound=Callable[..., Any])
_MODEL_HELP = """
    MODEL is an .onnx file, a .pt2 file, a folder with a program.toml, file.py:function, or a model
    of the zoo (NAME or NAME:PRESET; see vlacut models).
"""


class _Shape(click.ParamType[tuple[str, tuple[int, ...]]]):
    """`NAME=1x3x224x224` as (name, dimensions)."""

    name = "name=dims"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int, ...]]:
        """Parse, or fail with an example."""
        name, _, dims = str(value).rpartition("=")
        parts = dims.split("x") if dims else []
        if not name or not all(part.isdigit() for part in parts):
            self.fail(f"{value!r}: write NAME=DIMS, e.g. image=1x3x224x224", param, ctx)
        return name, tuple(int(part) for part in parts)


def _shape_option(command: F) -> F:
    option = click.option(
        "--shape", "shapes", type=_Shape(), multiple=True, help="Bind a dynamic input."
    )
    return option(command)


@click.command("plan", help=f"Decide what runs where, and show what it would cost.{_MODEL_HELP}")
@click.argument("model")
@target_options
@model_options
@_shape_option
@click.option(
    "--sweep",
    "swept",
    default="",
    help="The plan along link=1MB/s..100MB/s or cloud-budget=2GB..14GB.",
)
@click.option("--plot", type=click.Path(path_type=Path), help="The sweep as a figure: FILE.svg.")
@click.option("--candidates", is_flag=True, help="All that --pool considered, and why not.")
@json_option
def plan_command(
    model: str,
    pipeline: str,
    weights: tuple[Path, ...],
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    swept: str,
    plot: Path | None,
    candidates: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    target = _target(pipeline, asked)
    axis = parse_axis(swept) if swept else None
    if candidates and axis:
        raise InputError("--candidates is of one plan; leave --sweep out")
    if plot and axis is None:
        raise InputError("--plot shows a sweep; add --sweep, e.g. --sweep link=1MB/s..100MB/s")
    with progress_bar() as progress:
        progress("load", 0, 1)
        program = load_program(model, dict(shapes))
        unused = load_weights(program, open_checkpoint(weights)) if weights else ""
        if axis:
            points = sweep(program, target, axis, pipeline, progress)
        else:
            planned = plan_program(program, target, pipeline, progress)
    if axis:
        _report_sweep(program.name, target, axis, points, plot, as_json)
        return
    if unused:
        planned = replace(planned, warnings=(unused, *planned.warnings))
    if candidates and not planned.considered:
        raise InputError("--candidates lists what a pool considered; add --pool, e.g. --pool block")
    _report(planned, progress, as_json)
    if candidates and not as_json:
        show_candidates(console(), planned.considered, str(planned.plan.link))


def _report_sweep(
    model: str,
    target: Target,
    axis: Axis,
    points: Sequence[Point],
    plot: Path | None,
    as_json: bool,
) -> None:
    title = f"{model} on {target.edge} and {target.cloud}"
    if plot:
        write_plot(plot, title, axis, points)
    if as_json:
        machines = {"model": model, "edge": target.edge, "cloud": target.cloud}
        print_json({**machines, **sweep_json(axis, points)})
    else:
        out = console()
        out.print(f"[bold]{title}[/bold], {target.network()}\n")
        show_sweep(out, axis, points)


@click.command("compile", help=f"Cut a model and write the bundle of both sides.{_MODEL_HELP}")
@click.argument("model")
@target_options
@model_options
@_shape_option
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="The bundle.")
@click.option("--backend", default="onnxruntime", show_default=True, help="Runs the parts.")
@click.option("--golden/--no-golden", default=True, help="Record a step of the uncut model.")
@click.option(
    "--predictor",
    type=click.Path(path_type=Path),
    help="What vlacut train-predictor wrote, for the bundle's robots.",
)
@json_option
def compile_command(
    model: str,
    pipeline: str,
    weights: tuple[Path, ...],
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    out: Path,
    backend: str,
    golden: bool,
    predictor: Path | None,
    as_json: bool,
    **asked: Any,
) -> None:
    target = _target(pipeline, asked)
    with progress_bar() as progress:
        planned, bundle = compile_program(
            lambda: load_program(model, dict(shapes)),
            target,
            out,
            checkpoint=open_checkpoint(weights),
            backend=backend,
            pipeline=pipeline,
            golden=golden,
            predictor=predictor,
            progress=progress,
        )
    _report(planned, progress, as_json, {"bundle": str(out), "digest": bundle.digest.hex()})


def _target(pipeline: str, asked: dict[str, Any]) -> Target:
    if pipeline and asked["costs"]:
        raise click.UsageError("--costs is for the default pipeline; name measured-cost in yours")
    return Target(**asked)


def _report(
    planned: Planned, stages: Stages, as_json: bool, more: dict[str, Any] | None = None
) -> None:
    for warning in planned.warnings:
        click.echo(f"warning: {warning}", err=True)
    if as_json:
        seconds = {timing.name: timing.seconds for timing in planned.timings}
        extra = {
            "pipeline": planned.pipeline,
            "pass_s": seconds,
            "stage_s": stages.seconds,
            "warnings": planned.warnings,
            "converted": planned.converted,
            "measured": planned.measured,
            "interval_ms": [bound * 1e3 for bound in planned.interval_s],
            "candidates": candidates_json(planned.considered),
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
    show_plan(out, planned.plan, notes)
    if more:
        out.print(f"\nbundle {more['bundle']}, digest {more['digest'][:12]}")
        out.print(f"next: vlacut serve {more['bundle']}    and    vlacut run {more['bundle']}")


@click.command("opt", help=f"Print the graph after passes, as stable text.{_MODEL_HELP}")
@click.argument("model")
@click.option("-p", "--pipeline", default="", help='Passes: "simplify,annotate-cost,..."')
@_shape_option
@json_option
def opt_command(
    model: str, pipeline: str, shapes: tuple[tuple[str, tuple[int, ...]], ...], as_json: bool
) -> None:
    passes = parse_pipeline(pipeline)
    with progress_bar() as progress:
        progress("load", 0, 1)
        program = load_program(model, dict(shapes))
        timings = passes.run(program, progress)
    text = print_program(program)
    if as_json:
        seconds = {timing.name: timing.seconds for timing in timings}
        print_json(
            {"model": program.name, "pipeline": str(passes), "pass_s": seconds, "text": text}
        )
    else:
        sys.stdout.write(text)
