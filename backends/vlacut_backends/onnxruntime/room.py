"""Room for packed parts: who reads and who writes, and what goes when there is too much.

Readers hold the folder's kernel lock together, a writer alone, so that nothing goes between being
looked at and being mapped. A session keeps what it has mapped, whatever becomes of the file.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vlacut_backends.onnxruntime.packing import SUFFIX, own_files


@contextmanager
def locked(folder: Path, alone: bool = False) -> Iterator[None]:
    """Meanwhile nobody writes in a folder; with `alone` nobody reads either.

    A file system without locks has none.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def note_use(folder: Path, key: str) -> None:
    """Let a part be the one that was used last."""
    with suppress(PermissionError):  # another user's, who shares it
        os.utime(folder / f"{key}.json")


def make_room(folder: Path, newest: str, limit: int) -> None:
    """Remove parts, those not used for longest first, until all weights are within so many bytes.

    The newest stays. What no part reads, an altered part's or one's that was not kept, goes, too.
    """
    parts = {path.stem: _read_by(path.with_suffix(".engine")) for path in _by_use(folder)}
    sizes = {path.name: path.stat().st_size for path in folder.glob(f"*{SUFFIX}")}
    going = iter([key for key in parts if key != newest])
    while True:
        read = set().union(*parts.values())
        for name in sizes.keys() - read:
            (folder / name).unlink(missing_ok=True)
            del sizes[name]
        oldest = next(going, None) if sum(sizes.values()) > limit else None
        if oldest is None:
            return
        del parts[oldest]
        for suffix in (".json", ".engine"):  # the record first: without it there is no part
            (folder / f"{oldest}{suffix}").unlink(missing_ok=True)


def _by_use(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)


def _read_by(engine: Path) -> set[str]:
    try:
        return set(own_files(engine.read_bytes()))
    except (OSError, ValueError):
        return set()
