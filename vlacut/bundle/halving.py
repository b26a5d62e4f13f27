"""Halving: writing one side's half of a bundle, every byte of it verified on the way."""

from __future__ import annotations

import os
from pathlib import Path

from vlacut.bundle.halves import files_of, require
from vlacut.bundle.holding import hold
from vlacut.bundle.layout import HALF
from vlacut.bundle.opened import Bundle
from vlacut.bundle.reading import manifest_files, read_bundle
from vlacut.bundle.staging import staged_folder
from vlacut.errors import BundleError, Progress, unwatched
from vlacut.hardware import Side

_MODE = 0o644


def write_half(
    bundle: Bundle, side: Side | None, out: Path, progress: Progress = unwatched
) -> Bundle:
    """Write a side's half of a bundle to a folder, or all of it; as it is opened.

    Files are cloned where the file system can (btrfs, XFS), and copied elsewhere. A signature goes
    along: it is of both.

    Args:
        bundle: by its manifest; whole, or already this half.
        side: whose half; None for what there is of the bundle.
        out: a new folder, or a bundle that this one takes the place of.
        progress: called with what is being done, how many bytes are done, and of how many.

    Raises BundleError naming a file that is missing or altered, and then writes nothing; or where
    the folder cannot be written.
    """
    side = side or bundle.half
    require(bundle.root, bundle.half, side)
    if out.resolve() == bundle.root.resolve():
        raise BundleError(f"{out}: is the bundle itself; choose another place with -o")
    files = bundle.files if side is None else files_of(bundle.root, bundle.manifest, side)
    total, done = sum(entry.nbytes for entry in files.values()), 0
    with staged_folder(out) as folder:
        for name, entry in files.items():
            hold(bundle, name, folder)
            os.chmod(folder / name, _MODE)
            done += entry.nbytes
            progress("write", done, total)
        for name, data in manifest_files(bundle).items():
            (folder / name).write_bytes(data)
        if side is not None:
            (folder / HALF).write_text(f"{side.value}\n", encoding="ascii")
    return read_bundle(out)
