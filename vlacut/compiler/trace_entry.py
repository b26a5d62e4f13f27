"""One entry of the trace cache: a folder with a program, what it was made of, and digests."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from vlacut.compiler.file_locks import LOCK
from vlacut.compiler.trace_sources import Sources, file_digest
from vlacut.ir.program import Program
from vlacut.ir.storage import Held, read_program, write_program
from vlacut.tensor.npz import UNREADABLE

_ENTRY, _USED = "entry.json", "used"


@dataclass(frozen=True)
class Entry:
    """One traced program of the cache.

    Attributes:
        key: names its folder.
        model: as it was asked for.
        nbytes: bytes that it takes.
        used_s: when it was last read, in seconds since 1970.
    """

    key: str
    model: str
    nbytes: int
    used_s: float


def write_entry(
    folder: Path, model: str, program: Program, sources: Sources, held: frozenset[str]
) -> None:
    """Write a program into an empty folder, down to the disk."""
    write_program(program, folder, held)
    for name in (LOCK, _USED):
        (folder / name).touch()
    names = sorted(path.name for path in folder.iterdir() if path.name not in (LOCK, _USED))
    entry = {
        "model": model,
        "sources": vars(sources),
        "files": {name: file_digest(folder / name) for name in names},
    }
    (folder / _ENTRY).write_text(json.dumps(entry), encoding="utf-8")
    for name in (*names, _ENTRY):
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())


def read_entry(folder: Path, held: Held | None, module: str) -> tuple[Program | None, str]:
    """The program of a folder that was written; or None, and why it is of no use.

    It is older if its sources changed or the traced module is another, and damaged if its files are
    not as they were written.
    """
    try:
        model, sources, files = _described(folder)
        changed = sources.changed()
        if not changed and sources.module != module:
            changed = "the module that it makes"
        if changed:
            return None, f"{model}: {changed} has changed since"
        for name, digest in files.items():
            if file_digest(folder / name) != digest:
                raise ValueError(f"{name} is not what was written")
        program = read_program(folder, held)
        mark_used(folder)
    except (*UNREADABLE, TypeError, AttributeError, RecursionError) as error:
        return None, f"{folder}: a damaged trace ({error})"
    return program, ""


def mark_used(folder: Path) -> None:
    """An entry was read just now. Raises OSError if somebody has just removed it."""
    os.utime(folder / _USED)


def described(folder: Path) -> tuple[str, Sources]:
    """The model of an entry that was read, as it was asked for, and what it was made of."""
    model, sources, _ = _described(folder)
    return model, sources


def _described(folder: Path) -> tuple[str, Sources, dict[str, str]]:
    """Model, sources, and the digest of each file."""
    found = json.loads((folder / _ENTRY).read_bytes())
    return str(found["model"]), Sources(**found["sources"]), dict(found["files"])


def listed(folder: Path) -> Entry | None:
    """What a list says of a folder; None if somebody has just removed it."""
    try:
        model, _ = described(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        model = "(damaged)"
    try:
        nbytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return Entry(folder.name, model, nbytes, changed_s(folder / _USED))
    except OSError:
        return None


def changed_s(path: Path) -> float:
    """When a file was last changed, in seconds since 1970; 0 if there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
