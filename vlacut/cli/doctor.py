"""`doctor`: what this machine can run, and the next command for each thing that is missing."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import click

from vlacut import registry
from vlacut.backend import Diagnosis
from vlacut.bundle.manifest import read_bundle
from vlacut.cli.show.output import console, json_option, print_json, size, table
from vlacut.hardware import Side
from vlacut.hardware.driver import seen_driver

Rows = list[tuple[str, Diagnosis]]


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
    rows: Rows = [("machine", one) for one in _machine()]
    lacking = False
    if path is None:
        for name in registry.names("doctors"):
            rows += [(name, one) for one in _examined(name, None)]
    else:
        bundle = read_bundle(path)
        for each in Side if side is None else (Side(side),):
            found = list(_examined(bundle.backend(each), bundle.recipe(each)))
            lacking |= any(not one.well and one.needed for one in found)
            rows += [(each.value, one) for one in found]
    if as_json:
        print_json({"well": not lacking, "found": [{"of": of, **vars(one)} for of, one in rows]})
    else:
        _show(rows)
    if lacking:
        sys.exit(1)


def _machine() -> Iterator[Diagnosis]:
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    here = f"{os.cpu_count()} cores, {size(pages * page)}, Python {platform.python_version()}"
    yield Diagnosis(platform.machine(), here, True)
    driver = seen_driver()
    if driver is None:
        follows = "with an NVIDIA GPU, install its driver: nvidia-smi must answer"
        yield Diagnosis("NVIDIA driver", "none", True, follows, needed=False)
        return
    yield Diagnosis("NVIDIA driver", f"knows CUDA up to {driver.release}", True)
    for number, gpu in enumerate(driver.gpus):
        told = f"{gpu.name}, sm_{gpu.sm}, {size(gpu.memory_bytes)}"
        yield Diagnosis(f"GPU {number}", told, True)
    if not driver.gpus:
        yield Diagnosis("GPU", "none is seen", False, "look at CUDA_VISIBLE_DEVICES and nvidia-smi")


def _examined(name: str, recipe: Mapping[str, str] | None) -> Iterable[Diagnosis]:
    if name not in registry.names("doctors"):
        return [Diagnosis(name, "says nothing of what it needs", True)]
    found: Iterable[Diagnosis] = registry.load("doctors", name)().examine(recipe)
    return found


def _show(rows: Rows) -> None:
    out = console()
    lines = [(of, one.what, one.found, "" if one.well else "missing") for of, one in rows]
    out.print(table("This machine", ("of", "what", "found", ""), lines, left=4))
    for of, one in rows:
        if one.follows and not one.well:
            out.print(f"{of}, {one.what}: {one.follows}", soft_wrap=True, markup=False)
