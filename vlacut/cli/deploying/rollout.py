"""`rollout`: a bundle into the folder that a server follows, or out of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from vlacut.bundle.halving import write_half
from vlacut.bundle.private import beside
from vlacut.bundle.reading import read_bundle
from vlacut.cli.arguments import BUNDLE
from vlacut.cli.show.output import console, json_option, print_json, say_next
from vlacut.cli.show.progress import progress_bar
from vlacut.errors import InputError
from vlacut.hardware import Side


@click.command("rollout")
@BUNDLE
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option("--retire", metavar="NAME", help="A bundle of FOLDER that shall take no more robots.")
@json_option
def rollout_command(path: Path, folder: Path, retire: str | None, as_json: bool) -> None:
    """Put a bundle into the folder that a server follows.

    It appears there whole. The server verifies it, and then serves it to robots that hold it; the
    others go on with theirs.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; name the one that vlacut serve --watch follows")
    gone = folder / retire if retire else None
    if gone is not None and (gone.parent != folder or not (gone / "manifest.json").is_file()):
        raise InputError(f"--retire {retire}: {folder} holds no bundle of that name")
    bundle = read_bundle(path)
    if bundle.half is not None:
        bundle.require(Side.CLOUD)
    out = folder / path.resolve().name
    if out == gone:
        raise InputError(f"--retire {retire}: that is the one that is rolled out")
    with progress_bar() as progress:
        write_half(bundle, None, out, progress)
    if gone is not None:
        hidden = beside(gone)  # in one step; the server looks at no hidden folder
        gone.rename(hidden)
        shutil.rmtree(hidden)
    if as_json:
        said = {"path": str(out), "digest": bundle.digest.hex(), "retired": retire or ""}
        print_json(said)
        return
    console().print(f"rolled out {out} ({bundle.digest.hex()[:12]})", markup=False)
    if retire:
        console().print(f"retired {gone}: it is served until its last robot leaves", markup=False)
    say_next("vlacut status HOST:PORT", f"vlacut run {path}")
