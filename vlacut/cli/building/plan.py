"""`plan`: what runs where, and what it would cost."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from vlacut.cli import completion
from vlacut.cli.building.planned import MODEL_HELP, checked_target, show_planned, warn
from vlacut.cli.named import Named, named_options
from vlacut.cli.options import model_options, target_options
from vlacut.cli.show.candidates import show_candidates
from vlacut.cli.show.figures import make_figure, save_figure
from vlacut.cli.show.frontier import draw_sweep, show_sweep, sweep_json
from vlacut.cli.show.output import (
    console,
    json_option,
    print_json,
    say_next,
)
from vlacut.cli.show.progress import Stages, progress_bar
from vlacut.cli.show.report import link_json
from vlacut.compiler.planning import plan_program
from vlacut.compiler.sweep import Axis, parse_axis, sweep
from vlacut.compiler.target import Target
from vlacut.errors import InputError
from vlacut.frontends.checkpoint import load_weights, open_checkpoint
from vlacut.hardware import load_device
from vlacut.ir.program import Program

_WORDS = "vlacut.words"  # under which the context keeps them


class _Worded(click.Command):
    """A command that keeps the words that it was called with."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click; parsing takes the words out of the list."""
        ctx.meta[_WORDS] = tuple(args)
        return super().parse_args(ctx, args)


@click.command(
    "plan", cls=_Worded, help=f"Decide what runs where, and show what it would cost.{MODEL_HELP}"
)
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
    named: Named,
    pipeline: str,
    weights: tuple[Path, ...],
    swept: str,
    plot: Path | None,
    candidates: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    target = checked_target(pipeline, asked)
    if swept:
        if candidates:
            raise InputError("--candidates is of one plan; leave --sweep out")
        _sweep(named, weights, target, parse_axis(swept), pipeline, plot, as_json)
        return
    if plot:
        raise InputError("--plot shows a sweep; add --sweep, e.g. --sweep link=1MB/s..100MB/s")
    if candidates and target.pool == "none":
        raise InputError("--candidates lists what a pool considered; add --pool, e.g. --pool block")
    with progress_bar() as progress:
        program, unused = _loaded(named, weights, pipeline, progress)
        planned = plan_program(program, target, pipeline, progress)
    show_planned(replace(planned, warnings=(*unused, *planned.warnings)), progress, as_json)
    if candidates and not as_json:
        show_candidates(console(), planned.considered, str(planned.plan.link))
    if not as_json:
        say_next(_compile_alike(named.model))


def _loaded(
    named: Named, weights: tuple[Path, ...], pipeline: str, progress: Stages
) -> tuple[Program, tuple[str, ...]]:
    """The program with its weights, and what to say of those that it has no use for."""
    program = named.traced(progress, simplified=not pipeline)  # the default one begins with it
    unused = load_weights(program, open_checkpoint(weights)) if weights else ""
    return program, (unused,) if unused else ()


def _compile_alike(model: str) -> str:
    """The command that compiles what was planned, with the same options."""
    words = click.get_current_context().meta[_WORDS]
    asked = [word for word in words if word != "--candidates"]
    stem = Path(model.partition(":")[0]).stem or "policy"
    return shlex.join(["vlacut", "compile", *asked, "-o", f"{stem}.vlacut"])


def _sweep(
    named: Named,
    weights: tuple[Path, ...],
    target: Target,
    axis: Axis,
    pipeline: str,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Plan a model along an axis, and show it."""
    figure = make_figure(plot, 8, 5) if plot else None
    with progress_bar() as progress:
        program, unused = _loaded(named, weights, pipeline, progress)
        points = sweep(program, target, axis, pipeline, progress)
    warn(unused)
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
