"""Writing a pack: one file that `python FILE` runs.

    __main__.py     see `vlacut.api.pack.start`
    bundle/...      a half, as `vlacut.bundle.halves` has it; stored, not compressed
    vlacut-*.whl    the runtime

A pack is a program: who runs it trusts who made it. Its bundle is checked against its manifest and,
with `--trusted`, its signature; what checks that comes along with it.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from vlacut.api import pack
from vlacut.api.pack.wheel import runtime_wheel
from vlacut.bundle.contents import FileEntry
from vlacut.bundle.halves import files_of, require
from vlacut.bundle.layout import HALF
from vlacut.bundle.opened import Bundle
from vlacut.bundle.reading import manifest_files
from vlacut.bundle.staging import staged_file
from vlacut.errors import BundleError, Progress, unwatched
from vlacut.hardware import Side

_CHUNK = 1 << 20


def write_pack(bundle: Bundle, side: Side, out: Path, progress: Progress = unwatched) -> int:
    """Write a side's half of a bundle with its runtime as one file; its bytes.

    Args:
        bundle: by its manifest; whole, or already this half.
        side: whose half.
        out: the file; one that is there is replaced in one step, or kept.
        progress: called with what is being done, how many bytes are done, and of how many.

    Raises BundleError naming a file of the bundle that is missing or altered, or if the pack cannot
    be written.
    """
    require(bundle.root, bundle.half, side)
    if out.is_dir():
        raise BundleError(f"{out}: is a folder, and a pack is a file; choose another place with -o")
    try:
        with staged_file(out) as file, zipfile.ZipFile(file, "w") as archive:
            _fill(archive, bundle, side, progress)
    except OSError as error:
        raise BundleError(f"{out}: cannot be written: {error.strerror or error}") from error
    return out.stat().st_size


def _fill(archive: zipfile.ZipFile, bundle: Bundle, side: Side, progress: Progress) -> None:
    start = Path(next(iter(pack.__path__))) / "start.py"
    wheel, data = runtime_wheel()
    for name, content in (("__main__.py", start.read_bytes()), (wheel, data)):
        archive.writestr(zipfile.ZipInfo(name), content)
    small = {**manifest_files(bundle), HALF: f"{side.value}\n".encode()}
    for name, content in small.items():
        archive.writestr(zipfile.ZipInfo(f"bundle/{name}"), content)
    files = files_of(bundle.root, bundle.manifest, side)
    total, done = sum(entry.nbytes for entry in files.values()), 0
    for name, entry in files.items():
        _store(archive, bundle.root, name, entry)
        done += entry.nbytes
        progress("pack", done, total)


def _store(archive: zipfile.ZipFile, root: Path, name: str, entry: FileEntry) -> None:
    """A verified file of the bundle."""
    digest, total = hashlib.sha256(), 0
    info = zipfile.ZipInfo(f"bundle/{name}")
    try:
        source = (root / name).open("rb")
    except OSError as error:
        raise BundleError(f"{root}: {name} is missing ({error.strerror}); copy it again") from error
    with source, archive.open(info, "w", force_zip64=True) as target:
        while total <= entry.nbytes and (chunk := source.read(_CHUNK)):
            digest.update(chunk)
            total += len(chunk)
            target.write(chunk)
    if total != entry.nbytes or digest.hexdigest() != entry.sha256:
        raise BundleError(f"{root}: {name} is altered; compile it again, or copy it again")
