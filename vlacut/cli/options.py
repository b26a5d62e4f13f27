"""What `plan` and `compile` are asked: the options of a target."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from vlacut.cli import completion
from vlacut.compiler.precision_list import ROUNDING_METHODS
from vlacut.compiler.target import SIMPLER, Target
from vlacut.compiler.way_options import AGE, AUTO
from vlacut.plans.pool import FORMS
from vlacut.pricing.coding import COVERAGE

F = TypeVar("F", bound=Callable[..., Any])


_MOST_DIGITS = 9  # of a number of requests; Python reads none of thousands


def _empty_if_none(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
    """Click checks a default against the choices, and an empty one is none of them."""
    return value or ""


def _requests(ctx: click.Context, param: click.Parameter, value: str) -> int | str:
    """How many, or that the planner chooses."""
    if value == AUTO:
        return value
    if not value.isdecimal() or len(value) > _MOST_DIGITS:
        raise click.BadParameter(f"{value[:20]!r}: write a number, or {AUTO}")
    return int(value)


_OPTIONS = (
    click.option(
        "--edge",
        required=True,
        shell_complete=completion.devices,
        help="A device (see vlacut devices) or TOML file.",
    ),
    click.option(
        "--cloud",
        required=True,
        shell_complete=completion.devices,
        help="A device (see vlacut devices) or TOML file.",
    ),
    click.option("--link", required=True, help="UP[/DOWN][,RTT]: 10MB/s,20ms; or a TOML file."),
    click.option(
        "--link-trace", default="", help="Recorded bandwidths: a file or folder; takes the rates."
    ),
    click.option(
        "--quantile",
        default=0.95,
        show_default=True,
        help="With --link-trace: share of the time that the latency shown is not exceeded.",
    ),
    click.option(
        "--cloud-budget",
        default="",
        help="Most bytes of weights there: 12.1GB; default: its memory.",
    ),
    click.option("--cloud-time", default="", help="Most compute there per control step: 80ms."),
    click.option("--edge-memory", default="", help="The same of the edge; default: its memory."),
    click.option("--pin", multiple=True, help="Operators that have their side: 'vision.*=edge'."),
    click.option(
        "--private", multiple=True, help="INPUT[:BLOCK]: leaves the edge only through a block."
    ),
    click.option("--codecs", default="", help="That tensors may cross with: fp16,int8, or all."),
    click.option(
        "--max-action-error",
        type=float,
        default=None,
        help="Most that codecs may move the action, as a share of its magnitude: 0.01.",
    ),
    click.option(
        "--calibration",
        default="",
        help="Observations (.npz, or a folder) that bound this on fresh ones, and to round by.",
    ),
    click.option(
        "--coverage",
        default=COVERAGE,
        show_default=True,
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help="With --calibration: share of fresh observations that the bound holds for.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["float16", "bfloat16"]),
        callback=_empty_if_none,
        help="Weights and products in 16 bits, float32 where it needs it.",
    ),
    click.option(
        "--quantise",
        type=click.Choice(["int8", "float8e4m3fn", "int4", "w8a8", "w4a16", "w4a8"]),
        callback=_empty_if_none,
        help="Weights of products in 8 or 4 bits, calibrated on the example; w4a8: bits of both.",
    ),
    click.option(
        "--precisions",
        default="",
        help="More variants: int8,w4a16; prefill=int8+decode=int4; edge=int4+cloud=float.",
    ),
    click.option(
        "--rounding-error",
        type=float,
        default=None,
        help="Most that fewer bits may move the action; the weights that move it most stay: 0.05.",
    ),
    click.option(
        "--rounding-method",
        type=click.Choice(ROUNDING_METHODS),
        callback=_empty_if_none,
        help="How 4 bits are rounded to; rtn, to the nearest, runs nothing. Default: gptq.",
    ),
    click.option("--exact", multiple=True, help="Weights that stay in any case: 'lm_head*'."),
    click.option(
        "--round-embeddings",
        "embeddings",
        is_flag=True,
        help="4 bits for embeddings, too; not with TensorRT.",
    ),
    click.option(
        "--surgery",
        multiple=True,
        help="FILE.py:FUNCTION of a gs.Graph, on phases; edge=FILE.py:FUNCTION on parts of a side.",
    ),
    click.option(
        "--real-time-chunking",
        type=click.Choice(["guided", "prefix"]),
        callback=_empty_if_none,
        help="Let a denoise loop continue the chunk in force.",
    ),
    click.option(
        "--draft",
        default="",
        help="Run a token loop in one pass over drafts: last, velocity, kalman, chunk:7, auto.",
    ),
    click.option("--draft-table", default="", help="Of vlacut calibrate-draft: drafts' price."),
    click.option(
        "--in-flight",
        default="0",
        callback=_requests,
        help="Requests of successive steps that overlap, or auto: more actions, older ones.",
    ),
    click.option(
        "--batch", default="", help="Robots whose steps the server may run at once: 1,2,4,8."
    ),
    click.option(
        "--max-age", default="", help="Most age of the action in force, on average: 300ms."
    ),
    click.option(
        "--simpler",
        type=float,
        default=SIMPLER,
        show_default=True,
        help="Share of the optimum that a cut of fewer parts may cost more; 0 for the optimum.",
    ),
    click.option("--costs", multiple=True, help="A file of vlacut profile; may be repeated."),
    click.option("--deadline", default="", help="Most time of a control step: 100ms."),
    click.option(
        "--minimise",
        type=click.Choice(["latency", "cloud-time", "energy", AGE]),
        default="latency",
        show_default=True,
        help="What the cut is chosen for.",
    ),
    click.option(
        "--state-copies",
        type=click.Choice(["edge"]),
        callback=_empty_if_none,
        help="The edge holds all state after a step, and can go on alone.",
    ),
    click.option(
        "--keep-observations",
        "kept_observations",
        default=Target.kept_observations,
        show_default=True,
        type=click.IntRange(0),
        help="To run steps again whose state the cloud lost.",
    ),
    click.option(
        "--pool",
        default=Target.pool,
        show_default=True,
        help="Alternative cuts: none, block or portfolio:400MB.",
    ),
    click.option(
        "--pool-engines",
        default=Target.pool_engines,
        show_default=True,
        type=click.Choice(FORMS),
        help="Shared by the variants, or one per variant.",
    ),
    click.option(
        "--bandwidth",
        default=Target.bandwidth,
        show_default=True,
        help="For --pool: a range, or a folder of traces (.csv).",
    ),
)


def target_options(command: F) -> F:
    """Adds the fields of `vlacut.compiler.target.Target`, by their names."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def cache_option(command: F) -> F:
    """Adds `cache`: whether a model is traced by way of the user's cache."""
    option = click.option(
        "--cache/--no-cache", default=True, help="Trace a model once, see vlacut cache."
    )
    return option(command)


def model_options(command: F) -> F:
    """Adds `weights` and `pipeline`."""
    for option in (
        click.option(
            "--weights",
            type=click.Path(path_type=Path),
            multiple=True,
            help="A safetensors file, or a folder of them, for a model traced on shapes.",
        ),
        click.option(
            "--pipeline",
            "-p",
            default="",
            shell_complete=completion.pipelines,
            help="Passes to run instead of the default.",
        ),
    ):
        command = option(command)
    return command
