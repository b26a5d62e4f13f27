"""Holding: a side's own copy of the files of a bundle, which nobody else can change.

Weights are mapped. So writing into a file of a bundle that is served would change the policy, and
truncating it would end the server (SIGBUS). Therefore a side runs on files of its own, in a folder
that nobody else may enter; the folder is removed once the engines have the files. A file is a clone
if the file system can do that (btrfs, XFS: no bytes are copied), otherwise a copy. Each is verified
through the descriptor that wrote it.

The folder is where nobody else can put another in its place. Afterwards no name leads to the files.
So sealed memory (`memfd_create`), which is a copy too, would keep out nobody more: those who can
still reach the files, root and this user's processes, can write the process's memory.

In place, nothing is copied and the bundle must stay as it is. It is refused if anybody but root
and this user may write into it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from vlacut.bundle.contents import FileEntry
from vlacut.bundle.halves import weights_named
from vlacut.bundle.layout import part_files
from vlacut.bundle.opened import Bundle
from vlacut.bundle.private import (
    PrivateFolder,
    others_may_move,
    others_may_write,
    remove_leftovers,
)
from vlacut.bundle.store import WeightStore
from vlacut.errors import BundleError
from vlacut.hardware import Side

_CLONE = 0x40049409  # FICLONE of linux/fs.h
_NO_CLONE = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM)
_CHUNK = 1 << 22


@contextmanager
def held(
    bundle: Bundle, side: Side, in_place: bool = False, store: WeightStore | None = None
) -> Iterator[Path]:
    """A folder with a side's parts and their weights, verified, until the block ends.

    What was mapped or read by then stays the same, whatever happens to the bundle.

    Args:
        bundle: by its manifest.
        side: whose parts.
        in_place: give the bundle's own folder, if nobody else may write there.
        store: of weights that other bundles share; its user is the bundle's digest.

    Raises BundleError naming the file that is missing, altered or somebody else's to write.
    """
    if in_place:
        _refuse_writable(bundle)
        yield bundle.root
        return
    root = bundle.root.resolve()
    folder = _private_folder(root.parent, f".{root.name}.held")
    try:
        for file in (file for part in bundle.parts(side) for file in part_files(part)):
            hold(bundle, file, folder.path)
            for name in weights_named(folder.path / file):
                if name in bundle.manifest.files and not (folder.path / name).exists():
                    _hold_weight(bundle, name, folder.path, store)
        yield folder.path
    finally:
        folder.remove()


def shared_weights(beside: Path) -> WeightStore:
    """A store for the bundles beside a folder, or elsewhere: of another file system none share."""
    return WeightStore(lambda: _private_folder(beside.resolve(), ".vlacut.weights"))


def _hold_weight(bundle: Bundle, name: str, folder: Path, store: WeightStore | None) -> None:
    if store is None:
        hold(bundle, name, folder)
        return
    (folder / name).parent.mkdir(exist_ok=True)
    content = bundle.manifest.files[name].sha256
    store.take(bundle.digest, content, folder / name, lambda: hold(bundle, name, folder))


def _private_folder(beside: Path, stem: str) -> PrivateFolder:
    """Beside the bundle, where it can be cloned, or where temporary files go."""
    why = []
    for parent in (beside, Path(tempfile.gettempdir())):
        try:
            if others_may_move(parent):
                why.append(f"others may write in {parent}, or above it")
                continue
            remove_leftovers(parent, stem)
            return PrivateFolder(parent, stem)
        except OSError as error:
            why.append(f"{parent}: {error.strerror}")
    raise BundleError(
        f"{beside}: there is no room for files that nobody else can change ({'; '.join(why)}); set "
        f"TMPDIR to a folder of your own, or run with --in-place"
    )


def hold(bundle: Bundle, name: str, folder: Path) -> None:
    """A verified file of a bundle, in a folder of one's own, under the same name.

    Raises BundleError if it is missing, altered or no file, or there is no room for it.
    """
    entry, source, target = bundle.manifest.files[name], bundle.root / name, folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Not a pipe that nobody writes to: it would wait for ever.
        given = os.open(source, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise BundleError(
            f"{bundle.root}: {name} is missing ({error.strerror}); compile it again, or copy it"
        ) from error
    try:
        if not stat.S_ISREG(os.fstat(given).st_mode):
            raise BundleError(f"{bundle.root}: {name} is no file; compile it again, or copy it")
        made = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o400)
        try:
            if _take(given, made, entry) != entry.sha256:
                raise BundleError(
                    f"{bundle.root}: {name} is altered; compile it again, or copy it again"
                )
        finally:
            os.close(made)
    except OSError as error:
        raise BundleError(
            f"{folder.parent}: cannot hold {name}, of {entry.nbytes} bytes: {error.strerror}; make "
            f"room, or run with --in-place"
        ) from error
    finally:
        os.close(given)


def _take(given: int, made: int, entry: FileEntry) -> str:
    """Clone or copy a file; the digest of what was made, empty if it is of another size.

    A piece is hashed while it is written, and while the next one is read.
    """
    cloned = _clone(given, made)
    digest, total = hashlib.sha256(), 0
    hashed: Future[None] | None = None
    with ThreadPoolExecutor(1) as beside:
        while chunk := os.read(made if cloned else given, _CHUNK):
            if hashed is not None:
                hashed.result()
            hashed = beside.submit(digest.update, chunk)
            total += len(chunk)
            if total > entry.nbytes:
                return ""
            left = memoryview(chunk) if not cloned else memoryview(b"")
            while left:
                left = left[os.write(made, left) :]
    return digest.hexdigest() if total == entry.nbytes else ""


def _clone(given: int, made: int) -> bool:
    try:
        fcntl.ioctl(made, _CLONE, given)
    except OSError as error:
        if error.errno in _NO_CLONE:
            return False
        raise
    return True


def _refuse_writable(bundle: Bundle) -> None:
    """Raise BundleError if somebody else may write a file of it, or put another in its place."""
    root = bundle.root.resolve()
    folders = {root, *((root / name).parent for name in bundle.files)}
    for path in [*sorted(folders), *(root / name for name in bundle.files)]:
        if others_may_write(path.stat()):
            raise BundleError(
                f"{path}: others may write it, so it cannot be run in place; take that right away "
                f"(chmod -R go-w, chown), or run without --in-place"
            )
