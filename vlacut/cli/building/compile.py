"""`compile`, `plan` and `opt`: what needs the model."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from vlacut.cli import completion
from vlacut.cli.named import Named, Shapes, named_options, note
from vlacut.cli.options import model_options, target_options
from vlacut.cli.show.candidates import candidates_json, show_candidates
from vlacut.cli.show.figures import make_figure, save_figure
from vlacut.cli.show.frontier import draw_sweep, show_sweep, sweep_json
from vlacut.cli.show.output import (
    check_place,
    console,
    json_option,
    milliseconds,
    print_json,
    say_next,
)
from vlacut.cli.show.progress import Stages, progress_bar
from vlacut.cli.show.report import link_json, plan_json, show_plan
from vlacut.cli.show.ways import ways_json
from vlacut.compiler.planning import Planned, parts_text, plan_program
from vlacut.compiler.sweep import Axis, parse_axis, sweep
from vlacut.compiler.target import Target
from vlacut.errors import InputError
from vlacut.frontends.checkpoint import load_weights, open_checkpoint
from vlacut.frontends.lerobot.policy_folder import check_policy, place_for, write_policy_folder
from vlacut.frontends.load import LEROBOT
from vlacut.hardware import load_device
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.printer import print_program
from vlacut.ir.program import Program

_MODEL_HELP = """
    MODEL is an .onnx file, a .pt2 file, a folder with a program.toml, file.py:function, lerobot:DIR
    or openpi:DIR of a checkpoint, or a model of the zoo (NAME or NAME:PRESET; see vlacut models).
"""


@click.command("plan", help=f"Decide what runs where, and show what it would cost.{_MODEL_HELP}")
@click.argument("model", shell_complete=completion.models)
@target_options
@model_options
@named_options
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
    shapes: Shapes,
    state: tuple[str, ...],
    fixed: tuple[str, ...],
    rolls: str,
    cache: bool,
    task: str,
    original: str,
    config: str,
    swept: str,
    plot: Path | None,
    candidates: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    target, named = (
        _target(pipeline, asked),
        (Named(model, shapes, state, rolls, fixed, cache, task, original, config), weights),
    )
    if swept:
        if candidates:
            raise InputError("--candidates is of one plan; leave --sweep out")
        _sweep(named, target, parse_axis(swept), pipeline, plot, as_json)
        return
    if plot:
        raise InputError("--plot shows a sweep; add --sweep, e.g. --sweep link=1MB/s..100MB/s")
    if candidates and target.pool == "none":
        raise InputError("--candidates lists what a pool considered; add --pool, e.g. --pool block")
    with progress_bar() as progress:
        program, unused = _loaded(*named, pipeline, progress)
        planned = plan_program(program, target, pipeline, progress)
    _report(replace(planned, warnings=(*unused, *planned.warnings)), progress, as_json)
    if candidates and not as_json:
        show_candidates(console(), planned.considered, str(planned.plan.link))
    if not as_json:
        say_next(_compile_alike(named[0].model))


def _loaded(
    named: Named, weights: tuple[Path, ...], pipeline: str, progress: Stages
) -> tuple[Program, tuple[str, ...]]:
    """The program with its weights, and what to say of those that it has no use for."""
    program = named.traced(progress, simplified=not pipeline)  # the default one begins with it
    unused = load_weights(program, open_checkpoint(weights)) if weights else ""
    return program, (unused,) if unused else ()


def _compile_alike(model: str) -> str:
    """The command that compiles what was planned, with the same options."""
    asked = [word for word in sys.argv[2:] if word != "--candidates"]
    stem = Path(model.partition(":")[0]).stem or "policy"
    return shlex.join(["vlacut", "compile", *asked, "-o", f"{stem}.vlacut"])


def _sweep(
    named: tuple[Named, tuple[Path, ...]],
    target: Target,
    axis: Axis,
    pipeline: str,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Plan a model along an axis, and show it."""
    figure = make_figure(plot, 8, 5) if plot else None
    with progress_bar() as progress:
        program, unused = _loaded(*named, pipeline, progress)
        points = sweep(program, target, axis, pipeline, progress)
    _warn(unused)
    edge, cloud = load_device(target.edge).name, load_device(target.cloud).name
    title = f"{program.name} on {edge} and {cloud}"
    if plot and figure:
        draw_sweep(figure, f"{title}, {target.network()}", axis, points)
        save_figure(figure, plot)
    if as_json:
        asked = {"model": program.name, "edge": edge, "cloud": cloud}
        print_json({**asked, "link": link_json(target.network()), **sweep_json(axis, points)})
        return
    out = console()
    out.print(f"[bold]{title}[/bold], {target.network()}\n")
    show_sweep(out, axis, points)


@click.command("compile", help=f"Cut a model and write the bundle of both sides.{_MODEL_HELP}")
@click.argument("model", shell_complete=completion.models)
@target_options
@model_options
@named_options
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="The bundle.")
@click.option(
    "--backend",
    default="onnxruntime",
    show_default=True,
    shell_complete=completion.builders,
    help="Runs the parts: a name, or edge=NAME,cloud=NAME.",
)
@click.option(
    "--provider",
    default="",
    help="What it runs on: cuda, tensorrt, cpu; likewise a side; by device without it.",
)
@click.option("--golden/--no-golden", default=True, help="Record a step of the uncut model.")
@click.option(
    "--model-check/--no-model-check", default=True, help="Compare with the model it came from."
)
@click.option(
    "--model-tolerance",
    type=float,
    help="Largest difference from it, as a share of an output's magnitude; by type without it.",
)
@click.option(
    "--predictor",
    type=click.Path(path_type=Path),
    help="What vlacut train-predictor wrote, for the bundle's robots.",
)
@click.option(
    "--actions",
    type=click.Path(path_type=Path),
    help="What vlacut calibrate-actions wrote, for the bundle's robots.",
)
@click.option(
    "--precision-table",
    type=click.Path(path_type=Path),
    help="What vlacut calibrate-precision wrote, for the bundle's robots.",
)
@click.option("--report", "page", type=click.Path(path_type=Path), help="Write a page: .html.")
@click.option(
    "--lerobot",
    "for_lerobot",
    is_flag=True,
    help="Of lerobot:DIR: -o is the folder that LeRobot's commands take as --policy.path.",
)
@json_option
def compile_command(
    model: str,
    pipeline: str,
    weights: tuple[Path, ...],
    shapes: Shapes,
    state: tuple[str, ...],
    fixed: tuple[str, ...],
    rolls: str,
    cache: bool,
    task: str,
    original: str,
    config: str,
    out: Path,
    backend: str,
    provider: str,
    golden: bool,
    model_check: bool,
    model_tolerance: float | None,
    predictor: Path | None,
    actions: Path | None,
    precision_table: Path | None,
    page: Path | None,
    for_lerobot: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    from vlacut.compiler.driver import compile_program  # a plan does without it, and starts sooner

    target = _target(pipeline, asked)
    if page:
        check_place(page)
    folder = out
    if for_lerobot:
        if not model.startswith(LEROBOT):
            raise click.UsageError("--lerobot goes with lerobot:DIR")
        out = place_for(folder)
        check_policy(Path(model.removeprefix(LEROBOT)), task)
    named = Named(model, shapes, state, rolls, fixed, cache, task, original, config)
    with progress_bar() as progress:
        planned, bundle = compile_program(
            partial(named.traced, progress),
            target,
            out,
            checkpoint=open_checkpoint(weights),
            backend=backend,
            provider=provider,
            pipeline=pipeline,
            golden=golden,
            model_check=model_check,
            model_tolerance=model_tolerance,
            predictor=predictor,
            actions=actions,
            precision_table=precision_table,
            progress=progress,
        )
    if for_lerobot:
        write_policy_folder(folder, Path(model.removeprefix(LEROBOT)))
    checked = bundle.manifest.model_check
    more: dict[str, Any] = {
        "bundle": str(out),
        "digest": bundle.digest.hex(),
        "model_check": vars(checked),
    }
    if page:
        from vlacut.cli.building.report import report  # a plan does without the page

        more["report"] = report(page, [bundle])["report"]
    if for_lerobot:
        more["policy"] = str(folder)
    _report(planned, progress, as_json, more)
    if not as_json:
        console().print(str(checked), markup=False, soft_wrap=True)


def _target(pipeline: str, asked: dict[str, Any]) -> Target:
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


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


def _report(
    planned: Planned, stages: Stages, as_json: bool, more: dict[str, Any] | None = None
) -> None:
    _warn(planned.warnings)
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
    if more:
        out.print(f"\nbundle {more['bundle']}, digest {more['digest'][:12]}")
        if "report" in more:
            out.print(f"page {more['report']}: open it in a browser", markup=False)
        if "policy" in more:
            out.print(f"for LeRobot: --policy.path={more['policy']}", markup=False)
        out.print(f"next: vlacut serve {more['bundle']}    and    vlacut run {more['bundle']}")


@click.command("opt", help=f"Print the graph after passes, as stable text.{_MODEL_HELP}")
@click.argument("model", shell_complete=completion.models)
@click.option(
    "-p",
    "--pipeline",
    default="",
    shell_complete=completion.pipelines,
    help='Passes: "simplify,annotate-cost,..."',
)
@click.option("--parts", is_flag=True, help="What partition's cuts come to: parts and schedules.")
@named_options
@json_option
def opt_command(
    model: str,
    pipeline: str,
    parts: bool,
    shapes: Shapes,
    state: tuple[str, ...],
    fixed: tuple[str, ...],
    rolls: str,
    cache: bool,
    task: str,
    original: str,
    config: str,
    as_json: bool,
) -> None:
    passes = parse_pipeline(pipeline)
    with progress_bar() as progress:
        named = Named(model, shapes, state, rolls, fixed, cache, task, original, config)
        program = named.traced(progress)
        timings = passes.run(program, progress)
    text = parts_text(program) if parts else print_program(program)
    if as_json:
        seconds = {timing.name: timing.seconds for timing in timings}
        print_json(
            {"model": program.name, "pipeline": str(passes), "pass_s": seconds, "text": text}
        )
    else:
        sys.stdout.write(text)
