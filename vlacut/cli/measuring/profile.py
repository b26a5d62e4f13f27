"""`profile`: what the parts of a bundle take on this machine; needs no compiler."""

from __future__ import annotations

from pathlib import Path

import click

from vlacut.bundle.costs import MeasuredPart, write_costs
from vlacut.bundle.reading import open_bundle
from vlacut.cli.arguments import BUNDLE
from vlacut.cli.show.output import (
    check_place,
    console,
    json_option,
    milliseconds,
    print_json,
    say_next,
    table,
)
from vlacut.cli.show.progress import progress_bar
from vlacut.hardware import Side
from vlacut.measurement.profiling import profile_bundle

_SIDES = {"edge": (Side.EDGE,), "cloud": (Side.CLOUD,), "both": (Side.EDGE, Side.CLOUD)}


@click.command("profile")
@BUNDLE
@click.option(
    "--side", required=True, type=click.Choice(tuple(_SIDES)), help="What this machine is."
)
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="A .json file.")
@click.option("--turns", default=15, show_default=True, type=click.IntRange(3))
@json_option
def profile_command(path: Path, side: str, out: Path, turns: int, as_json: bool) -> None:
    """Measure the parts of a bundle where they run.

    The file is for --costs of `vlacut plan` and `vlacut compile`.
    """
    check_place(out)
    bundle = open_bundle(path, half=True)
    for each in _SIDES[side]:
        bundle.require(each)
    with progress_bar() as progress:
        found = profile_bundle(bundle, _SIDES[side], turns, progress)
    write_costs(out, found)
    if as_json:
        print_json({"costs": str(out), "bundle": str(path), "parts": [*map(_json, found.parts)]})
        return
    columns = ("part", "side", "device", "ms", "quartiles", "planned", "measured / planned")
    console().print(table("Parts, one run", columns, [*map(_row, found.parts)], left=3))
    console().print(f"\nwrote {out}", markup=False)
    say_next(
        f"vlacut compile MODEL ... --costs {out}",
        f"vlacut report {path} --costs {out} -o report.html",
    )


def _row(part: MeasuredPart) -> tuple[str, ...]:
    return (
        part.name,
        part.side.value,
        part.device,
        milliseconds(part.seconds),
        f"{milliseconds(part.low_s)}-{milliseconds(part.high_s)}",
        milliseconds(part.predicted_s),
        f"{part.seconds / part.predicted_s:.2f}" if part.predicted_s else "",
    )


def _json(part: MeasuredPart) -> dict[str, object]:
    return {
        "name": part.name,
        "side": part.side.value,
        "device": part.device,
        "time_ms": part.seconds * 1e3,
        "quartiles_ms": [part.low_s * 1e3, part.high_s * 1e3],
        "planned_ms": part.predicted_s * 1e3,
    }
