"""Halves: what one side needs of a bundle, as a bundle of its own.

    half            `edge` or `cloud`: which one it is
    manifest.json   the whole bundle's, byte for byte, so both halves have its digest
    the side's parts and their weights, what their engines are verified with, the initial state;
    on the edge also the golden step, the predictor and the tables of the control loop

The digest of the manifest is what edge and cloud compare when they meet, and what a signature is
of: it covers every file of the whole bundle, and so of either half.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from vlacut.bundle.contents import FileEntry, Manifest
from vlacut.bundle.layout import (
    ACTION,
    HALF,
    INITIAL,
    OBSERVATION,
    PRECISIONS,
    part_files,
    part_golden_file,
)
from vlacut.errors import BundleError
from vlacut.hardware import Side

_MOST_BYTES = 16  # of the file that says which
_WEIGHT = re.compile(rb"weights/[0-9a-f]{64}")


def read_half(root: Path) -> Side | None:
    """Whose half a folder is; None if it is a whole bundle. BundleError if it is unclear."""
    path = root / HALF
    if not path.exists():
        return None
    try:
        with path.open("rb") as file:
            said = file.read(_MOST_BYTES).decode("ascii", "replace").strip()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    found = [side for side in Side if side.value == said]
    if not found:
        raise BundleError(f"{path}: says {said!r}, and must say edge or cloud; copy it again")
    return found[0]


def files_of(root: Path, manifest: Manifest, side: Side) -> dict[str, FileEntry]:
    """The files that a side needs, by name; of a part that is missing the weights are not known."""
    parts = [part for part in manifest.plan.parts if part.side is side]
    wanted = {INITIAL, *map(part_golden_file, parts)}
    if side is Side.EDGE:
        wanted |= {OBSERVATION, ACTION, manifest.predictor, manifest.actions}
        wanted |= {name for name in manifest.files if name.startswith(f"{PRECISIONS}/")}
    for name in (name for part in parts for name in part_files(part)):
        wanted |= {name, *weights_named(root / name)}
    return {name: entry for name, entry in manifest.files.items() if name in wanted}


def weights_of(root: Path, manifest: Manifest, side: Side) -> dict[str, int]:
    """Bytes of the distinct weights of a side, by content."""
    files = files_of(root, manifest, side).items()
    return {entry.sha256: entry.nbytes for name, entry in files if name.startswith("weights/")}


def weights_named(part: Path) -> list[str]:
    """The files that the ONNX file of a part names, in order; none if it cannot be read."""
    try:
        data = part.read_bytes()
    except OSError:
        return []
    return [name.decode() for name in dict.fromkeys(_WEIGHT.findall(data))]


def require(root: Path, half: Side | None, wanted: Side | None) -> None:
    """Raises BundleError where the half at hand is not what is wanted: a side, or None for both."""
    if half is None or half is wanted:
        return
    need = f"the {wanted.value}'s" if wanted else "both"
    take = f", or vlacut bundle {wanted.value} of it" if wanted else ""
    raise BundleError(
        f"{root}: is the {half.value}'s half of a bundle, and this needs {need}; take the whole "
        f"bundle{take}"
    )


def nbytes_of(files: Mapping[str, FileEntry]) -> int:
    """Bytes of files."""
    return sum(entry.nbytes for entry in files.values())
