"""A folder or a file that appears whole or not at all: written beside, synced, then renamed.

An interrupted writer leaves what was there before, and at most `.NAME.partial-*` beside it. The
next writer of a folder removes what is left of one that was killed (`vlacut.bundle.private`).
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from vlacut.bundle.layout import MANIFEST
from vlacut.bundle.private import PrivateFolder, beside, remove_leftovers
from vlacut.errors import BundleError

_AT_FDCWD = -100
_NO_REPLACE, _EXCHANGE = 1, 2  # of renameat2


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """An empty folder to fill; it takes the target's place when the block ends without an error.

    Raises BundleError if the target is neither a bundle nor an empty folder, at the start or at the
    end, or if the disk is full or not writable. What somebody else put there stays.
    """
    _check_replaceable(target)
    stem = f".{target.name}.partial"
    staging: PrivateFolder | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target.parent, stem)
        staging = PrivateFolder(target.parent, stem)
        yield staging.path
        staging.path.chmod(_usual_mode(staging.path))
        _sync(staging.path)
        _take_place(staging.path, target)
    except OSError as error:
        raise BundleError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        if staging is not None:
            staging.remove()


@contextmanager
def staged_file(path: Path) -> Iterator[BinaryIO]:
    """A file to fill; it is synced, and takes the path's place, when the block ends without an
    error.

    Raises OSError; whatever is raised, the old content stays, and nothing is left beside it.
    """
    made = beside(path)
    try:
        with made.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        made.rename(path)
    except BaseException:
        made.unlink(missing_ok=True)
        raise


def write_file(path: Path, data: str | bytes) -> None:
    """Write a file (a text in UTF-8); the old content is replaced in one step, or kept.

    A path that is no regular file, such as a device, is written to directly. Raises OSError, and
    then nothing is left beside the file.
    """
    data = data.encode() if isinstance(data, str) else data
    path = path.resolve()  # what a link leads to is replaced, not the link
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    with staged_file(path) as file:
        file.write(data)


def _check_replaceable(target: Path) -> None:
    if target.is_dir():
        if any(target.iterdir()) and not (target / MANIFEST).is_file():
            raise BundleError(f"{target}: is a folder but no bundle; choose another place with -o")
    elif target.exists():
        raise BundleError(f"{target}: is a file; choose another place with -o")


def _usual_mode(folder: Path) -> int:
    """The mode of folders that this process makes."""
    usual = folder / ".mode"
    usual.mkdir()
    mode = usual.stat().st_mode & 0o777
    usual.rmdir()
    return mode


def _sync(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _take_place(staging: Path, target: Path) -> None:
    """Put the folder there; at its own path is then what was there before, if it may go."""
    if not _rename(staging, target, _NO_REPLACE):
        _check_replaceable(target)  # again: it may have appeared, or been filled, since
        _swap(staging, target)
        if not _may_go(staging):  # somebody filled it just now
            _swap(staging, target)
            _check_replaceable(target)
    handle = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _may_go(before: Path) -> bool:
    """Whether what was there is a bundle; an empty folder is removed at once."""
    if (before / MANIFEST).is_file():
        return True
    try:
        before.rmdir()
    except OSError:
        return False
    return True


def _swap(one: Path, other: Path) -> None:
    """Swap two folders, in one step where the file system can: no name is ever missing then."""
    if _rename(one, other, _EXCHANGE):
        return
    aside = beside(other)  # a kill between these lines leaves the old one there
    other.rename(aside)
    one.rename(other)
    aside.rename(one)


def _rename(one: Path, other: Path, how: int) -> bool:
    """renameat2; False where what must not be there is, or the file system has no such call."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = (os.fsencode(one), os.fsencode(other))
    if libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], how) == 0:
        return True
    number = ctypes.get_errno()
    if number == errno.EEXIST and how == _NO_REPLACE:
        return False
    if number not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(number, os.strerror(number), str(other))
    if how == _NO_REPLACE and not other.exists():
        one.rename(other)
        return True
    return False
