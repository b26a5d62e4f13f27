"""`compile`: the bundle of both sides."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from vlacut.cli import completion
from vlacut.cli.building.planned import MODEL_HELP, checked_target, show_planned
from vlacut.cli.building.report import report
from vlacut.cli.named import Named, named_options
from vlacut.cli.options import model_options, target_options
from vlacut.cli.show.output import (
    check_place,
    console,
    json_option,
)
from vlacut.cli.show.progress import progress_bar
from vlacut.compiler.driver import compile_program
from vlacut.frontends.checkpoint import open_checkpoint
from vlacut.frontends.lerobot.policy_folder import check_policy, place_for, write_policy_folder
from vlacut.frontends.load import LEROBOT


@click.command("compile", help=f"Cut a model and write the bundle of both sides.{MODEL_HELP}")
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
    named: Named,
    pipeline: str,
    weights: tuple[Path, ...],
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
    target = checked_target(pipeline, asked)
    if page:
        check_place(page)
    folder = out
    if for_lerobot:
        if not named.model.startswith(LEROBOT):
            raise click.UsageError("--lerobot goes with lerobot:DIR")
        out = place_for(folder)
        check_policy(Path(named.model.removeprefix(LEROBOT)), named.task)
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
        write_policy_folder(folder, Path(named.model.removeprefix(LEROBOT)))
    checked = bundle.manifest.model_check
    more: dict[str, Any] = {
        "bundle": str(out),
        "digest": bundle.digest.hex(),
        "model_check": vars(checked),
    }
    if page:
        more["report"] = report(page, [bundle])["report"]
    if for_lerobot:
        more["policy"] = str(folder)
    show_planned(planned, progress, as_json, more)
    if not as_json:
        _show_written(more)
        console().print(str(checked), markup=False, soft_wrap=True)


def _show_written(written: Mapping[str, Any]) -> None:
    """What was written where, and the next commands."""
    out = console()
    out.print(f"\nbundle {written['bundle']}, digest {written['digest'][:12]}")
    if "report" in written:
        out.print(f"page {written['report']}: open it in a browser", markup=False)
    if "policy" in written:
        out.print(f"for LeRobot: --policy.path={written['policy']}", markup=False)
    out.print(f"next: vlacut serve {written['bundle']}    and    vlacut run {written['bundle']}")
