"""`compile`, `plan` and `opt`: what needs the model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from vlacut.cli.output import console, json_option, milliseconds, print_json, progress_bar
from vlacut.cli.report import plan_json, show_plan
from vlacut.compiler import Planned, Target, compile_program, plan_program
from vlacut.frontends.checkpoint import load_weights, open_checkpoint
from vlacut.frontends.load import load_program
from vlacut.pipeline import parse_pipeline
from vlacut.printer import print_program

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


def _target_options(command: F) -> F:
    for option in (
        click.option(
            "--weights",
            type=click.Path(path_type=Path),
            multiple=True,
            help="A safetensors file, or a folder of them, for a model traced on shapes.",
        ),
        click.option("--costs", multiple=True, help="A file of vlacut profile; may be repeated."),
        click.option("--pipeline", "-p", default="", help="Passes to run instead of the default."),
        click.option("--cloud-budget", default="", help="Most bytes of weights there: 12.1GB."),
        click.option("--link", required=True, help="UP[/DOWN][,RTT]: 10MB/s,20ms; or a TOML file."),
        click.option("--cloud", required=True, help="A device (see vlacut devices) or TOML file."),
        click.option("--edge", required=True, help="A device (see vlacut devices) or TOML file."),
    ):
        command = option(command)
    return command


@click.command("plan", help=f"Decide what runs where, and show what it would cost.{_MODEL_HELP}")
@click.argument("model")
@_target_options
@_shape_option
@json_option
def plan_command(
    model: str,
    edge: str,
    cloud: str,
    link: str,
    cloud_budget: str,
    costs: tuple[str, ...],
    pipeline: str,
    weights: tuple[Path, ...],
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    as_json: bool,
) -> None:
    target = _target(edge, cloud, link, cloud_budget, costs, pipeline)
    with progress_bar() as progress:
        progress("load", 0, 1)
        program = load_program(model, dict(shapes))
        unused = load_weights(program, open_checkpoint(weights)) if weights else ""
        planned = plan_program(program, target, pipeline, progress)
    if unused:
        planned = replace(planned, warnings=(unused, *planned.warnings))
    _report(planned, as_json)


@click.command("compile", help=f"Cut a model and write the bundle of both sides.{_MODEL_HELP}")
@click.argument("model")
@_target_options
@_shape_option
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="The bundle.")
@click.option("--backend", default="onnxruntime", show_default=True, help="Runs the parts.")
@click.option("--golden/--no-golden", default=True, help="Record a step of the uncut model.")
@json_option
def compile_command(
    model: str,
    edge: str,
    cloud: str,
    link: str,
    cloud_budget: str,
    costs: tuple[str, ...],
    pipeline: str,
    weights: tuple[Path, ...],
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    out: Path,
    backend: str,
    golden: bool,
    as_json: bool,
) -> None:
    target = _target(edge, cloud, link, cloud_budget, costs, pipeline)
    with progress_bar() as progress:
        planned, bundle = compile_program(
            lambda: load_program(model, dict(shapes)),
            target,
            out,
            checkpoint=open_checkpoint(weights),
            backend=backend,
            pipeline=pipeline,
            golden=golden,
            progress=progress,
        )
    _report(planned, as_json, {"bundle": str(out), "digest": bundle.digest.hex()})


def _target(
    edge: str, cloud: str, link: str, cloud_budget: str, costs: tuple[str, ...], pipeline: str
) -> Target:
    if pipeline and costs:
        raise click.UsageError("--costs is for the default pipeline; name measured-cost in yours")
    return Target(edge, cloud, link, cloud_budget, costs)


def _report(planned: Planned, as_json: bool, more: dict[str, Any] | None = None) -> None:
    for warning in planned.warnings:
        click.echo(f"warning: {warning}", err=True)
    if as_json:
        seconds = {timing.name: timing.seconds for timing in planned.timings}
        extra = {
            "pipeline": planned.pipeline,
            "pass_s": seconds,
            "warnings": planned.warnings,
            "converted": planned.converted,
            "measured": planned.measured,
            "interval_ms": [bound * 1e3 for bound in planned.interval_s],
        }
        print_json({**plan_json(planned.plan), **extra, **(more or {})})
        return
    out = console()
    show_plan(out, planned.plan)
    low, high = (milliseconds(seconds) for seconds in planned.interval_s)
    out.print(f"\nA step takes {low} to {high} ms: 90 % interval of the machines' models.")
    if planned.converted:
        out.print(f"\nconverted for the back end: {planned.converted}")
    if planned.measured:
        out.print(f"\n{planned.measured}")
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
