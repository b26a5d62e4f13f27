"""Folders that one process writes. They are locked while it lives; if it is killed, the next
process removes them.

A kernel lock (`flock`) on the folder says whether its process lives. That holds across containers,
where process ids mean nothing. On a file system without locks, no folder of another is removed.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
import tempfile
from pathlib import Path

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def others_may_write(found: os.stat_result) -> bool:
    """Whether somebody else than root and this user may write a file, or in a folder."""
    return not _ours(found) or bool(found.st_mode & _OTHERS)


def anybody_may_write(path: Path) -> str:
    """Why a file, or what is in a folder, may be anybody's; empty if it is not, or is not there.

    A group is trusted here: caches are shared.
    """
    try:
        found = path.stat()
    except OSError:
        return ""
    if not _ours(found):
        return f"{path} is another user's"
    return f"anybody may write {path}" if found.st_mode & stat.S_IWOTH else ""


def others_may_move(folder: Path) -> bool:
    """Whether somebody else may put another folder in the place of one that is made in this one.

    Who may write in a folder may rename what is in it, unless it is sticky, as /tmp is; and so on
    up to the root.
    """
    home = folder.resolve()
    return any(
        not _ours(found) or (found.st_mode & _OTHERS and not found.st_mode & stat.S_ISVTX)
        for found in (path.stat() for path in (home, *home.parents))
    )


def _ours(found: os.stat_result) -> bool:
    return found.st_uid in (0, os.geteuid())


def beside(path: Path) -> Path:
    """A name beside a path that no other process takes: for the file that will replace it."""
    return path.with_name(f".{path.name}.partial-{secrets.token_hex(6)}")


class PrivateFolder:
    """A new, empty folder that nobody else may enter.

    Args:
        parent: where it is made.
        stem: its name begins with this and a dash.

    Attributes:
        path: where it is.

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

    def release(self) -> None:
        """Give it up, wherever it is by now: the lock ends, the folder stays."""
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
