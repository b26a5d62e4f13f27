"""`check`: what can be said of a bundle's parts without the machines they are for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from vlacut.bundle.reading import open_bundle
from vlacut.cli import completion
from vlacut.cli.arguments import BUNDLE
from vlacut.cli.show.output import console, json_option, print_json, say_next, size, table
from vlacut.cli.show.progress import progress_bar
from vlacut.compiler.checking import CheckedPart, check_parts
from vlacut.hardware import Side


@click.command("check")
@BUNDLE
@click.option(
    "--target",
    default="",
    shell_complete=completion.devices,
    help="A device for every part; else each part's own.",
)
@click.option("--side", type=click.Choice([side.value for side in Side]), help="Its parts alone.")
@click.option("--with", "checker", default="tensorrt", show_default=True, help="Whose rules.")
@click.option("--build/--no-build", default=True, help="Build engines too, where that can be had.")
@click.option("--dla", is_flag=True, help="Could they go to the device's DLA, too?")
@json_option
def check_command(
    path: Path,
    target: str,
    side: str | None,
    checker: str,
    build: bool,
    dla: bool,
    as_json: bool,
) -> None:
    """Check that devices will run the parts of a bundle.

    The devices are not needed: the check goes as far as this machine can tell.

    Exit status 1 if a part breaks a rule of its device, is no valid ONNX, or cannot be built.
    """
    bundle = open_bundle(path, half=True)
    asked = Side(side) if side else bundle.half
    bundle.require(asked)
    with progress_bar() as progress:
        results = check_parts(bundle, asked, checker, target, build, dla, progress)
    if as_json:
        print_json(_json(path, results))
    else:
        _show(results)
        say_next(f"vlacut build {path} --side edge", f"vlacut verify {path}")
    if any(one.checked.findings for one in results):
        sys.exit(1)


def _json(path: Path, results: Sequence[CheckedPart]) -> dict[str, object]:
    return {
        "bundle": str(path),
        "passed": not any(one.checked.findings for one in results),
        "parts": [
            {
                "name": one.part.name,
                "side": one.part.side.value,
                "device": one.device,
                "findings": [vars(finding) for finding in one.checked.findings],
                "built": one.checked.built,
                "why_not": one.checked.why_not,
                "notes": list(one.checked.notes),
                "seconds": one.checked.seconds,
                "peak_bytes": one.checked.peak_bytes,
                "engine_bytes": one.checked.engine_bytes,
            }
            for one in results
        ],
    }


def _show(results: Sequence[CheckedPart]) -> None:
    out = console()
    columns = ("part", "side", "device", "result", "s", "memory", "weights")
    out.print(table("Checked without a GPU", columns, [_row(one) for one in results], left=4))
    for one in results:
        for finding in one.checked.findings:
            said = f"{one.part.name} on {one.device}, rule {finding.rule}: {finding}"
            out.print(said, soft_wrap=True, markup=False)
    notes = dict.fromkeys((one.device, note) for one in results for note in one.checked.notes)
    for device, note in notes:
        out.print(f"{device}: {note}", soft_wrap=True, markup=False)


def _row(one: CheckedPart) -> tuple[str, ...]:
    part, device, checked = one.part, one.device, one.checked
    verdict = checked.built or f"rules and ONNX hold; not built: {checked.why_not}"
    if checked.findings:
        verdict = f"FAILS: {len(checked.findings)} below"
    taken = (f"{checked.seconds:.1f}", size(checked.peak_bytes)) if checked.built else ("", "")
    return (part.name, part.side.value, device, verdict, *taken, size(part.weight_bytes))
