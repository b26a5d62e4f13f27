"""`compile`, `plan` and `opt`: what needs the model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from vlacut.cli.output import console, json_option, print_json, progress_bar
from vlacut.cli.report import plan_json, show_plan
from vlacut.compiler import Planned, Progress, Target, compile_program, plan_program
from vlacut.frontends.checkpoint import load_weights
from vlacut.frontends.load import load_program
from vlacut.pipeline import parse_pipeline
from vlacut.pool import FORMS
from vlacut.printer import print_program
from vlacut.program import Program

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
        click.option("--pipeline", "-p", default="", help="Passes to run instead of the default."),
        click.option(
            "--bandwidth",
            default=Target.bandwidth,
            show_default=True,
            help="For --pool: a range, or a folder of traces (.csv).",
        ),
        click.option(
            "--pool-engines",
            default=Target.pool_engines,
            show_default=True,
            type=click.Choice(FORMS),
            help="Shared by the variants, or one a variant.",
        ),
        click.option(
            "--pool",
            default=Target.pool,
            show_default=True,
            help="Alternative cuts: none, block or portfolio:400MB.",
        ),
        click.option("--cloud-budget", default="", help="Most bytes of weights there: 12.1GB."),
        click.option("--link", required=True, help="UP[/DOWN][,RTT]: 10MB/s,20ms or 80Mbit/s."),
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
    pool: str,
    pool_engines: str,
    bandwidth: str,
    pipeline: str,
    weights: tuple[Path, ...],
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    as_json: bool,
) -> None:
    target = Target(edge, cloud, link, cloud_budget, pool, pool_engines, bandwidth)
    with progress_bar() as progress:
        program = _load(model, shapes, weights, progress)
        planned = plan_program(program, target, pipeline, progress)
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
    pool: str,
    pool_engines: str,
    bandwidth: str,
    pipeline: str,
    weights: tuple[Path, ...],
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    out: Path,
    backend: str,
    golden: bool,
    as_json: bool,
) -> None:
    target = Target(edge, cloud, link, cloud_budget, pool, pool_engines, bandwidth)
    with progress_bar() as progress:
        program = _load(model, shapes, weights, progress)
        planned, bundle = compile_program(
            program,
            target,
            out,
            backend=backend,
            pipeline=pipeline,
            golden=golden,
            progress=progress,
        )
    _report(planned, as_json, {"bundle": str(out), "digest": bundle.digest.hex()})


def _load(
    model: str,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    weights: tuple[Path, ...],
    progress: Progress,
) -> Program:
    progress("load", 0, 1)
    program = load_program(model, dict(shapes))
    if weights:
        unexpected = load_weights(program, weights)
        if unexpected:
            few = ", ".join(unexpected[:3]) + (", ..." if len(unexpected) > 3 else "")
            click.echo(f"warning: {len(unexpected)} weights are not used: {few}", err=True)
    return program


def _report(planned: Planned, as_json: bool, more: dict[str, Any] | None = None) -> None:
    for warning in planned.warnings:
        click.echo(f"warning: {warning}", err=True)
    if as_json:
        seconds = {timing.name: timing.seconds for timing in planned.timings}
        extra = {"pipeline": planned.pipeline, "pass_s": seconds, "warnings": planned.warnings}
        extra["converted"] = planned.converted
        print_json({**plan_json(planned.plan), **extra, **(more or {})})
        return
    out = console()
    show_plan(out, planned.plan)
    if planned.converted:
        out.print(f"\nconverted for the back end: {planned.converted}")
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
