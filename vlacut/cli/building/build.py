"""`build`: engines where they will run; needs no compiler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vlacut import registry
from vlacut.bundle.engine_records import NOTHING, BuildRecord, BuiltPart
from vlacut.bundle.reading import open_bundle
from vlacut.bundle.serde import to_json
from vlacut.cli.arguments import BUNDLE
from vlacut.cli.show.output import console, json_option, milliseconds, print_json, size, table
from vlacut.cli.show.progress import progress_bar
from vlacut.errors import InputError
from vlacut.hardware import Side


@click.command("build")
@BUNDLE
@click.option(
    "--side",
    required=True,
    type=click.Choice([side.value for side in Side]),
    help="What this machine is.",
)
@click.option("--via", default="", help="python or trtexec, for TensorRT; python if not given.")
@click.option("--backend", default="", help="Builds them; the bundle's if not given.")
@json_option
def build_command(path: Path, side: str, via: str, backend: str, as_json: bool) -> None:
    """Build engines on the machine that will run them.

    Each is compared with what its part computed where the bundle was made.

    Engines are kept in $VLACUT_ENGINES, or in the user's cache; what is there is not built again.
    """
    bundle = open_bundle(path, half=True)
    bundle.require(Side(side))
    name = backend or bundle.backend(Side(side))
    if name not in registry.names("engine_builders"):
        raise InputError(
            f"{path}: back end {name} runs parts as they are: there is nothing to build"
        )
    if not bundle.parts(Side(side)):
        raise InputError(f"{path}: its plan has no part on the {side}")
    builder = registry.load("engine_builders", name)()
    with progress_bar() as progress:
        record = builder.build(bundle, Side(side), via, progress)
    if as_json:
        print_json(record_json(record))
    else:
        show_record(record, path)


def record_json(record: BuildRecord) -> dict[str, Any]:
    """The object of `build --json`."""
    head = {"bundle": record.bundle, "program": record.program, "side": record.side.value}
    rest = {"device": record.device, "software": record.software, "folder": record.folder}
    return {**head, **rest, "seconds": record.seconds, "parts": [*map(_json, record.parts)]}


def _json(part: BuiltPart) -> dict[str, Any]:
    engine = to_json(part.engine)
    kept = {key: engine[key] for key in engine if key not in ("kind", "format", "part")}
    return {"name": part.name, "key": part.key, "built": part.built, **kept}


def show_record(record: BuildRecord, path: Path) -> None:
    """The table of `build`."""
    out = console()
    columns = ("part", "engine", "verified", "off by", "ms", "size", "built in", "host memory")
    title = f"{record.program}, {record.side} on {record.device} by {record.software}"
    out.print(table(title, columns, [*map(_row, record.parts)], left=3))
    made = sum(part.built for part in record.parts)
    if not record.folder:
        out.print(f"\na comparison in {record.seconds:.1f} s: nothing was kept")
        return
    out.print(
        f"\n{made} of {len(record.parts)} engines built in {record.seconds:.1f} s, the others were "
        f"there; record {record.folder}/{record.bundle[:16]}-{record.side}.json"
    )
    if any(part.engine.verified == NOTHING for part in record.parts):
        out.print("the bundle has no golden tensors (--no-golden): numbers were not verified")
    follows = "vlacut serve" if record.side is Side.CLOUD else "vlacut run"
    out.print(f"next: {follows} {path}")


def _row(part: BuiltPart) -> tuple[str, ...]:
    engine = part.engine
    off = f"{engine.max_error:.2g} of {engine.allowed:.2g}" if engine.verified != NOTHING else ""
    return (
        part.name,
        "built" if part.built else "was there",
        engine.verified,
        off,
        milliseconds(engine.device_ms * 1e-3),
        size(engine.nbytes),
        f"{engine.seconds:.1f} s",
        size(engine.host_bytes),
    )
