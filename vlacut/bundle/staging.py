"""A folder or a file that appears whole or not at all: written beside, synced, then renamed.

An interrupted writer leaves what was there before, and at most `.NAME.partial-PID` beside it. The
next writer of a folder removes what is left of one.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vlacut.errors import BundleError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """An empty folder to fill; it takes the target's place when the block ends without an error.

    Raises BundleError if the target is something else than a bundle or an empty folder, or if the
    disk is full or not writable.
    """
    _check_replaceable(target)
    staging = target.parent / f".{target.name}.partial-{os.getpid()}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target)
        staging.mkdir()
        yield staging
        _sync(staging)
        _take_place(staging, target)
    except OSError as error:
        raise BundleError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_file(path: Path, data: str | bytes) -> None:
    """Write a file, a text in UTF-8; what was there before is replaced in one step, or kept.

    What is no file, such as a device, is written to as it is. Raises OSError, with nothing left
    beside the file.
    """
    data = data.encode() if isinstance(data, str) else data
    path = path.resolve()  # what a link leads to is replaced, not the link
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    beside = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _check_replaceable(target: Path) -> None:
    if target.is_dir():
        if any(target.iterdir()) and not (target / "manifest.json").is_file():
            raise BundleError(f"{target}: is a folder but no bundle; choose another place with -o")
    elif target.exists():
        raise BundleError(f"{target}: is a file; choose another place with -o")


def _remove_leftovers(target: Path) -> None:
    for path in target.parent.glob(f".{target.name}.partial-*"):
        pid = path.name.rpartition("-")[2]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _take_place(staging: Path, target: Path) -> None:
    if target.exists():
        _exchange(staging, target)
    else:
        staging.rename(target)
    handle = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _exchange(one: Path, other: Path) -> None:
    """Swap two folders in one step, so that at no moment either name is missing."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = (os.fsencode(one), os.fsencode(other))
    if libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return
    number = ctypes.get_errno()
    if number not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(number, os.strerror(number), str(other))
    # This file system cannot swap: a kill between these two lines leaves the old one in `aside`.
    aside = other.with_name(f".{other.name}.before-{os.getpid()}")
    other.rename(aside)
    one.rename(other)
    shutil.rmtree(aside)
