"""Locks between processes: on a folder of files, and on the making of what a key names.

A lock ends with the process that holds it, so nobody waits for one that was killed.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vlacut.bundle.private import anybody_may_write

LOCK = "lock"  # the file of a folder that is locked
_CLAIM = ".claim"


def lock_shared(folder: Path) -> int:
    """A handle that keeps a folder from being removed until it is closed; 0 if there is none."""
    return _lock(folder, fcntl.LOCK_SH)


def lock_alone(folder: Path) -> int:
    """A handle that only one process has, while nobody reads the folder; 0 if it is not to be had.

    It is held until it is closed.
    """
    return _lock(folder, fcntl.LOCK_EX)


class Claims:
    """Who makes what a key names, among the processes that want it; below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def claimed(self, key: str) -> Iterator[bool]:
        """Whether this process is the one that makes what a key names.

        It is, too, where the folder cannot be written or anybody may.
        """
        handle = 0
        if not anybody_may_write(self.folder):
            with suppress(OSError):
                self.folder.mkdir(parents=True, exist_ok=True)
                how = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                handle = os.open(self._file(key), how, 0o600)
        if not handle:
            yield True
            return
        mine = _locked(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            if mine:
                os.utime(handle)
            yield mine
        finally:
            if mine:  # a child of this process may hold the handle, too
                fcntl.flock(handle, fcntl.LOCK_UN)
            os.close(handle)

    def wait(self, key: str) -> None:
        """Until nobody makes what a key names."""
        try:
            handle = os.open(self._file(key), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return
        try:
            _locked(handle, fcntl.LOCK_SH)
        finally:
            os.close(handle)

    def files(self) -> Iterator[Path]:
        """The claims that were ever made and not removed."""
        return self.folder.glob(f".*{_CLAIM}")

    def _file(self, key: str) -> Path:
        return self.folder / f".{key[:16]}{_CLAIM}"


def _locked(handle: int, how: int) -> bool:
    """Whether a lock was had."""
    try:
        fcntl.flock(handle, how)
    except OSError:
        return False
    return True


def _lock(folder: Path, how: int) -> int:
    try:
        handle = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(handle), os.stat(folder / LOCK)):
            raise OSError("the folder was replaced meanwhile")
    except OSError:
        os.close(handle)
        return 0
    return handle
