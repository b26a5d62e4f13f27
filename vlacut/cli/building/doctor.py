"""`doctor`: what this machine can run, and the next command for each thing that is missing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from vlacut.bundle.reading import read_bundle
from vlacut.cli.show.output import console, json_option, print_json, say_next, table
from vlacut.hardware import Side
from vlacut.runtime.diagnosis import Row, diagnose, lacking


@click.command("doctor")
@click.argument(
    "path", metavar="[BUNDLE]", type=click.Path(path_type=Path, exists=True), required=False
)
@click.option(
    "--side", type=click.Choice([side.value for side in Side]), help="What this machine is to be."
)
@json_option
def doctor_command(path: Path | None, side: str | None, as_json: bool) -> None:
    """Show what this machine can run.

    Devices, drivers, back ends and their releases; with BUNDLE, against each of its recipes. What
    is missing has the next command beside it.

    Exit status 1 if a side of BUNDLE, or the one that is named, cannot run here.
    """
    asked = None if path is None else read_bundle(path)
    rows = diagnose(asked, tuple(Side) if side is None else (Side(side),))
    ill = lacking(rows)
    if as_json:
        print_json({"well": not ill, "found": [{"of": of, **vars(one)} for of, one in rows]})
    else:
        _show(rows)
        if not ill:
            say_next(f"vlacut verify {path}" if path else "vlacut doctor BUNDLE")
    if ill:
        sys.exit(1)


def _show(rows: Sequence[Row]) -> None:
    out = console()
    lines = [(of, one.what, one.found, "" if one.well else "missing") for of, one in rows]
    out.print(table("This machine", ("of", "what", "found", ""), lines, left=4))
    for of, one in rows:
        if one.follows and not one.well:
            out.print(f"{of}, {one.what}: {one.follows}", soft_wrap=True, markup=False)
