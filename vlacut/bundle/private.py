"""Folders that one process writes: locked while it lives, removed by the next once it is killed.

A lock of the kernel's (`flock`) on the folder says whether its process lives, in other containers
too, where process ids mean nothing. Where a file system has none, nothing of another's is removed.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
from pathlib import Path


def beside(path: Path) -> Path:
    """A name beside a path that no other process takes, for what will take its place."""
    return path.with_name(f".{path.name}.partial-{secrets.token_hex(6)}")


class PrivateFolder:
    """A new, empty folder that nobody else may enter.

    Args:
        parent: where it is made.
        stem: its name begins with this and a dash.

    Attributes:
        path: of it.

    Raises OSError.
    """

    def __init__(self, parent: Path, stem: str) -> None:
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=f"{stem}-", dir=parent))
            self._handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            _lock(self._handle, fcntl.LOCK_EX)
            if _same(self.path, self._handle):
                return
            os.close(self._handle)  # who looked for leftovers had it between these two lines

    def is_at(self, path: Path) -> bool:
        """Whether a path leads to it: it may have been renamed."""
        return _same(path, self._handle)

    def release(self) -> None:
        """It is nobody's any more, wherever it is by now."""
        os.close(self._handle)

    def remove(self) -> None:
        """Remove what is at its path, and release it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.release()


def remove_leftovers(parent: Path, stem: str) -> None:
    """Remove the folders of that stem whose processes were killed."""
    for path in sorted(parent.glob(f"{stem}-*")):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue  # somebody else removed it, or it is another's
        try:
            if _lock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB) and _same(path, handle):
                shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(handle)


def _lock(handle: int, how: int) -> bool:
    """Whether the lock was had; where there are no locks it never is."""
    try:
        fcntl.flock(handle, how)
    except OSError:
        return False
    return True


def _same(path: Path, handle: int) -> bool:
    try:
        there, held = os.stat(path, follow_symlinks=False), os.fstat(handle)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)
