"""`check`: what can be said of a bundle's parts without the machines they are for."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from vlacut import registry
from vlacut.backend import Checked
from vlacut.bundle.manifest import Bundle, open_bundle
from vlacut.cli import completion
from vlacut.cli.arguments import BUNDLE
from vlacut.cli.show.output import console, json_option, print_json, progress_bar, size, table
from vlacut.hardware import load_device
from vlacut.plans.plan import Part
from vlacut.side import Side


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

    As far as that can be known without them.

    Exit status 1 if a part breaks a rule of its device, is no valid ONNX, or cannot be built.
    """
    bundle = open_bundle(path)
    parts = bundle.parts(Side(side)) if side else bundle.plan.parts
    found: list[tuple[Part, str, Checked]] = []
    with progress_bar() as progress:
        for part in parts:
            progress(part.name, len(found), len(parts))
            device = target or _own_device(bundle, part)
            found.append((part, device, _check(bundle, part, checker, device, build, dla)))
    if as_json:
        print_json(_json(path, found))
    else:
        _show(found)
    if any(checked.findings for _, _, checked in found):
        sys.exit(1)


def _own_device(bundle: Bundle, part: Part) -> str:
    return bundle.plan.edge if part.side is Side.EDGE else bundle.plan.cloud


def _check(
    bundle: Bundle, part: Part, checker: str, device: str, build: bool, dla: bool
) -> Checked:
    made = registry.load("checkers", checker)()
    model = bundle.part_path(part)
    result: Checked = made.check(part.name, model, bundle.root, load_device(device), build, dla)
    return result


def _json(path: Path, found: list[tuple[Part, str, Checked]]) -> dict[str, object]:
    return {
        "bundle": str(path),
        "passed": not any(checked.findings for _, _, checked in found),
        "parts": [
            {
                "name": part.name,
                "side": part.side.value,
                "device": device,
                "findings": [vars(finding) for finding in checked.findings],
                "built": checked.built,
                "why_not": checked.why_not,
                "seconds": checked.seconds,
                "peak_bytes": checked.peak_bytes,
                "engine_bytes": checked.engine_bytes,
            }
            for part, device, checked in found
        ],
    }


def _show(found: list[tuple[Part, str, Checked]]) -> None:
    out = console()
    columns = ("part", "side", "device", "result", "s", "memory", "weights")
    out.print(table("Checked without a GPU", columns, [_row(*item) for item in found], left=4))
    for part, device, checked in found:
        for finding in checked.findings:
            said = f"{part.name} on {device}, rule {finding.rule}: {finding}"
            out.print(said, soft_wrap=True, markup=False)


def _row(part: Part, device: str, checked: Checked) -> tuple[str, ...]:
    verdict = checked.built or f"rules and ONNX hold; not built: {checked.why_not}"
    if checked.findings:
        verdict = f"FAILS: {len(checked.findings)} below"
    taken = (f"{checked.seconds:.1f}", size(checked.peak_bytes)) if checked.built else ("", "")
    return (part.name, part.side.value, device, verdict, *taken, size(part.weight_bytes))
