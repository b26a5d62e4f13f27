"""Writing what a bundle says of itself: its manifest, and the list of its files."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from vlacut.bundle.contents import FileEntry, Manifest
from vlacut.bundle.layout import MANIFEST, MANIFEST_DIGEST
from vlacut.bundle.serde import to_json


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a folder, with its digest beside it."""
    data = json.dumps(to_json(manifest), indent=1, sort_keys=True).encode() + b"\n"
    (folder / MANIFEST).write_bytes(data)
    (folder / MANIFEST_DIGEST).write_text(hashlib.sha256(data).hexdigest() + "\n")


def add_file(folder: Path, kind: str, file: Path | None) -> str:
    """Copy a file into the folder of its kind, named by its content; returns its path there.

    None gives an empty path.
    """
    if file is None:
        return ""
    name = f"{kind}/{sha256_of(file)}"
    (folder / kind).mkdir()
    shutil.copyfile(file, folder / name)
    return name


def list_files(folder: Path) -> dict[str, FileEntry]:
    """Every file below a folder by its path, with `/`. A weight's digest is its name."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _entry(path) for path in paths}


def _entry(path: Path) -> FileEntry:
    sha256 = path.name if path.parent.name == "weights" else sha256_of(path)
    return FileEntry(sha256, path.stat().st_size)


def sha256_of(path: Path) -> str:
    """The digest of a file, in hexadecimal; the file may be large."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
