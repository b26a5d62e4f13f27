"""The trace cache: traced programs in the user's cache, so that a model is traced once.

An entry is a folder named by the request (MODEL, shapes, this Python). It holds the program
(`vlacut.ir.storage`) and `entry.json`: what the program was made of, and a digest of each file of
the entry. An entry whose sources changed is *older*. An entry whose files are not as they were
written is *damaged*. Both are traced anew and replaced.

Entries appear whole or not at all, by a rename. A reader holds a shared lock on its entry for as
long as the program lives, because weights are mapped out of it. Removing an entry needs the
exclusive lock, so an entry that is read stays. If all entries take too much room, the least
recently used go first.

Of processes that ask for one trace at the same time, one makes it and the others wait. The lock
ends with the process that holds it, so that nobody waits for one that was killed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlacut.bundle.private import anybody_may_write
from vlacut.ir.program import Program
from vlacut.ir.storage import Held, content_bytes, read_program, write_program
from vlacut.tensor.npz import UNREADABLE

MOST_BYTES = 4_000_000_000  # of all entries
_LARGEST_SHARE = 2  # an entry takes half of them at most
_FORMAT = 3
_ENTRY, _LOCK, _USED = "entry.json", "lock", "used"
_PARTIAL, _CLAIM = ".partial-", ".claim"
_STALE_S = 3600.0  # a folder that is being written is not older than that

Say = Callable[[str], None]


@dataclass(frozen=True)
class Sources:
    """What a traced program was made of.

    Attributes:
        files: the digest of each source by its path.
        sizes: size and time of change, in ns, of files too large to be read each time, by path.
        installed: `.dist-info` folders of the packages that took part; each names its version.
        module: digest of the traced module, if a function of the user's made it.
    """

    files: Mapping[str, str]
    sizes: Mapping[str, Sequence[int]]
    installed: Sequence[str]
    module: str = ""

    def changed(self) -> str:
        """The first source that has changed; empty if none has."""
        for path, digest in self.files.items():
            if file_digest(Path(path)) != digest:
                return path
        for path, size in self.sizes.items():
            if list(file_size(Path(path))) != list(size):
                return path
        gone = (path for path in self.installed if not Path(path).is_dir())
        return next(gone, "")


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


class TraceCache:
    """The entries below a folder, at most `most_bytes` of them; safe between processes."""

    def __init__(self, folder: Path | None = None, most_bytes: int = MOST_BYTES) -> None:
        self.folder = folder or traces_folder()
        self.most_bytes = most_bytes

    def find(
        self, key: str, say: Say, held: Held | None = None, module: str = ""
    ) -> Program | None:
        """The program of an entry; None if there is none, or, having said why, none of use."""
        entry = self.folder / key
        if self._anybody_s(say):
            return None
        handle = _lock(entry, fcntl.LOCK_SH)
        if not handle:
            return None
        program = None
        try:
            described = json.loads((entry / _ENTRY).read_bytes())
            sources = Sources(**described["sources"])
            changed = sources.changed()
            if not changed and sources.module != module:
                changed = "the module that it makes"
            if changed:
                say(f"{described['model']}: {changed} has changed since; it is traced anew")
                return None
            for name, digest in described["files"].items():
                if file_digest(entry / name) != digest:
                    raise ValueError(f"{name} is not what was written")
            program = read_program(entry, held)
            os.utime(entry / _USED)
        except (*UNREADABLE, TypeError, AttributeError, RecursionError) as error:
            say(f"{entry}: a damaged trace ({error}); it is traced anew")
        finally:
            if program is None:
                os.close(handle)
        if program is not None:
            weakref.finalize(program, os.close, handle)
        return program

    def once(
        self,
        key: str,
        find: Callable[[Say], Program | None],
        make: Callable[[], Program],
        say: Say,
    ) -> Program:
        """What `find` gives, else what `make` makes and keeps under a key.

        If another process makes it, this one waits, having told `say`, and finds. A line is said
        once.
        """
        told: set[str] = set()

        def say_once(line: str) -> None:
            if line not in told:
                told.add(line)
                say(line)

        while True:
            found = find(say_once)
            if found is not None:
                return found
            with self._claimed(key) as mine:
                if mine:
                    return find(say_once) or make()  # it may have been made just now
            say_once("another process traces it; this one waits")
            self._wait(key)

    def keep(
        self,
        key: str,
        model: str,
        program: Program,
        sources: Sources,
        say: Say,
        held: frozenset[str] = frozenset(),
    ) -> None:
        """Put a program into the cache. If the cache cannot be written, `say` is told; no error."""
        if content_bytes(program, held) * _LARGEST_SHARE > self.most_bytes:
            return  # it would push out all others
        if self._anybody_s(say):
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
            staging = Path(tempfile.mkdtemp(prefix=f".{key[:16]}{_PARTIAL}", dir=self.folder))
            try:
                self._write(staging, model, program, sources, held)
                self._place(staging, self.folder / key)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
            self._bound(key)
        except OSError as error:
            say(f"{self.folder}: the trace is not kept: {error.strerror or error}")

    @contextmanager
    def _claimed(self, key: str) -> Iterator[bool]:
        """Whether this process is the one that makes what a key names.

        It is, too, where the cache cannot be written or anybody may, which `keep` says.
        """
        handle = 0
        if not anybody_may_write(self.folder):
            with suppress(OSError):
                self.folder.mkdir(parents=True, exist_ok=True)
                how = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                handle = os.open(self._claim(key), how, 0o600)
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

    def _wait(self, key: str) -> None:
        """Until nobody makes what a key names."""
        try:
            handle = os.open(self._claim(key), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return
        try:
            _locked(handle, fcntl.LOCK_SH)
        finally:
            os.close(handle)

    def _claim(self, key: str) -> Path:
        return self.folder / f".{key[:16]}{_CLAIM}"

    def _anybody_s(self, say: Say) -> bool:
        """Whether anybody could have put a program there; said."""
        why = anybody_may_write(self.folder)
        if why:
            say(f"{why}: traces are neither taken from there nor kept")
        return bool(why)

    def entries(self) -> list[Entry]:
        """All entries, the most recently used first."""
        found = (self._entry(folder) for folder in self._folders())
        return sorted((one for one in found if one), key=lambda one: one.used_s, reverse=True)

    def clear(self) -> tuple[int, int]:
        """Remove the entries that nobody reads; returns how many were removed and how many stay."""
        folders = list(self._folders())
        removed = sum(self._remove(folder) for folder in folders)
        for folder in self.folder.glob(f".*{_PARTIAL}*"):
            shutil.rmtree(folder, ignore_errors=True)
        for claim in self.folder.glob(f".*{_CLAIM}"):
            claim.unlink(missing_ok=True)
        return removed, len(folders) - removed

    def _write(
        self,
        folder: Path,
        model: str,
        program: Program,
        sources: Sources,
        held: frozenset[str],
    ) -> None:
        write_program(program, folder, held)
        for name in (_LOCK, _USED):
            (folder / name).touch()
        names = sorted(path.name for path in folder.iterdir() if path.name not in (_LOCK, _USED))
        described = {
            "model": model,
            "sources": vars(sources),
            "files": {name: file_digest(folder / name) for name in names},
        }
        (folder / _ENTRY).write_text(json.dumps(described), encoding="utf-8")
        for name in (*names, _ENTRY):
            with (folder / name).open("rb") as file:
                os.fsync(file.fileno())

    def _place(self, staging: Path, entry: Path) -> None:
        """Let a written folder be the entry; where another process was faster, its is as good."""
        if entry.exists() and not self._remove(entry):
            return
        try:
            staging.rename(entry)
        except OSError:
            if not entry.is_dir():
                raise

    def _remove(self, entry: Path) -> bool:
        """Remove an entry, unless somebody reads it."""
        handle = _lock(entry, fcntl.LOCK_EX)
        if not handle and (entry / _LOCK).exists():
            return False
        aside = Path(tempfile.mkdtemp(prefix=f".old{_PARTIAL}", dir=self.folder))
        try:
            entry.rename(aside / "entry")  # what others see is gone in one step
        except OSError:
            return False
        finally:
            shutil.rmtree(aside, ignore_errors=True)
            if handle:
                os.close(handle)
        return True

    def _bound(self, newest: str) -> None:
        entries = self.entries()
        total = sum(entry.nbytes for entry in entries)
        for entry in reversed(entries):
            if total <= self.most_bytes:
                return
            if entry.key != newest and self._remove(self.folder / entry.key):
                total -= entry.nbytes

    def _sweep(self) -> None:
        """Remove what writers left that were killed."""
        for folder in self.folder.glob(f".*{_PARTIAL}*"):
            if time.time() - _changed_s(folder) > _STALE_S:
                shutil.rmtree(folder, ignore_errors=True)
        for claim in self.folder.glob(f".*{_CLAIM}"):
            if time.time() - _changed_s(claim) > _STALE_S:  # one too early: it is traced twice
                claim.unlink(missing_ok=True)

    def _folders(self) -> Iterator[Path]:
        if self.folder.is_dir():
            yield from sorted(
                path for path in self.folder.iterdir() if path.is_dir() and path.name[0] != "."
            )

    def _entry(self, folder: Path) -> Entry | None:
        try:
            model = str(json.loads((folder / _ENTRY).read_bytes())["model"])
        except (OSError, ValueError, KeyError, TypeError):
            model = "(damaged)"
        try:
            nbytes = sum(path.stat().st_size for path in folder.iterdir())
            return Entry(folder.name, model, nbytes, _changed_s(folder / _USED))
        except OSError:
            return None  # somebody has just removed it


def traces_folder() -> Path:
    """Where traces are kept: the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "vlacut" / "traces"


def key_of_request(*asked: Any) -> str:
    """The key of an entry: a digest of what was asked for, and of this format."""
    return hashlib.sha256(json.dumps([_FORMAT, *asked]).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def file_size(path: Path) -> tuple[int, int]:
    """Size and time of change of a file; (-1, 0) if there is none."""
    try:
        found = path.stat()
    except OSError:
        return -1, 0
    return found.st_size, found.st_mtime_ns


def _changed_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _locked(handle: int, how: int) -> bool:
    """Whether a lock was had."""
    try:
        fcntl.flock(handle, how)
    except OSError:
        return False
    return True


def _lock(entry: Path, how: int) -> int:
    """A handle that holds a lock on an entry until it is closed; 0 if none."""
    try:
        handle = os.open(entry / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(handle), os.stat(entry / _LOCK)):
            raise OSError("the entry was replaced meanwhile")
    except OSError:
        os.close(handle)
        return 0
    return handle
