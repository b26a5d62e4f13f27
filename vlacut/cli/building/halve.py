"""`bundle`: what one side needs of a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from vlacut.api.pack.writing import write_pack
from vlacut.bundle.halves import files_of, nbytes_of
from vlacut.bundle.halving import write_half
from vlacut.bundle.reading import read_bundle
from vlacut.cli.arguments import BUNDLE
from vlacut.cli.show.output import console, json_option, print_json, size
from vlacut.cli.show.progress import progress_bar
from vlacut.hardware import Side


@click.command("bundle")
@click.argument("side", type=click.Choice([side.value for side in Side]))
@BUNDLE
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, help="A folder for the half."
)
@click.option("--pack", is_flag=True, help="One file with its runtime: python FILE starts it.")
@json_option
def bundle_command(side: str, path: Path, out: Path, pack: bool, as_json: bool) -> None:
    """Write what one side needs of a bundle.

    That is its parts and their weights alone. Both halves have the digest of the bundle, and its
    signature where there is one: edge and cloud know that they belong together.
    """
    whole = read_bundle(path)
    files = files_of(whole.root, whole.manifest, Side(side))
    with progress_bar() as progress:
        if pack:
            write_pack(whole, Side(side), out, progress)
        else:
            write_half(whole, Side(side), out, progress)
    taken, of = nbytes_of(files), nbytes_of(whole.files)
    if as_json:
        named = {"half": side, "path": str(out), "digest": whole.digest.hex(), "pack": pack}
        print_json({**named, "files": len(files), "bytes": taken, "of_bytes": of})
        return
    line = f"wrote {out}, the {side}'s half of {path} ({whole.digest.hex()[:12]}): "
    console().print(f"{line}{size(taken)} of {size(of)}", markup=False, soft_wrap=True)
    follows = "vlacut run" if side == Side.EDGE.value else "vlacut serve"
    console().print(f"next: {'python' if pack else follows} {out}", markup=False)
