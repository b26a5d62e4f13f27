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

import hashlib
import json
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vlacut.bundle.private import anybody_may_write
from vlacut.compiler.file_locks import LOCK, Claims, lock_alone, lock_shared
from vlacut.compiler.simplified import find_simplified, keep_simplified
from vlacut.compiler.trace_entry import Entry, changed_s, listed, read_entry, write_entry
from vlacut.compiler.trace_sources import Sources
from vlacut.ir.program import Program
from vlacut.ir.storage import Held, content_bytes

MOST_BYTES = 4_000_000_000  # of all entries
_LARGEST_SHARE = 2  # an entry takes half of them at most
_FORMAT = 3
_PARTIAL = ".partial-"
_STALE_S = 3600.0  # a folder that is being written is not older than that

Say = Callable[[str], None]


class TraceCache:
    """The entries below a folder, at most `most_bytes` of them; safe between processes."""

    def __init__(self, folder: Path | None = None, most_bytes: int = MOST_BYTES) -> None:
        self.folder = folder or traces_folder()
        self.most_bytes = most_bytes
        self.claims = Claims(self.folder)

    def find(
        self,
        key: str,
        say: Say,
        held: Held | None = None,
        module: str = "",
        simplified: bool = False,
    ) -> Program | None:
        """The program of an entry; None if there is none, or, having said why, none of use.

        If `simplified`, it is what `simplify` makes of it, where that is kept, and carries
        `simplified.SIMPLIFIED`.
        """
        entry = self.folder / key
        if self._anybody_s(say):
            return None
        handle = lock_shared(entry)
        if not handle:
            return None
        program: Program | None = None
        try:
            program = find_simplified(entry, held, module) if simplified else None
            why = ""
            if program is None:
                program, why = read_entry(entry, held, module)
        finally:
            if program is None:
                os.close(handle)
        if program is None:
            say(f"{why}; it is traced anew")
            return None
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
            with self.claims.claimed(key) as mine:
                if mine:
                    return find(say_once) or make()  # it may have been made just now
            say_once("another process traces it; this one waits")
            self.claims.wait(key)

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
                write_entry(staging, model, program, sources, held)
                self._place(staging, self.folder / key)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
            self._bound(key)
        except OSError as error:
            say(f"{self.folder}: the trace is not kept: {error.strerror or error}")

    def keep_simplified(
        self, key: str, program: Program, made_by: Sources, held: frozenset[str], say: Say
    ) -> None:
        """Keep what `simplify` made of the program of an entry; `say` is told if it cannot be."""
        try:
            keep_simplified(self.folder / key, program, made_by, held)
        except OSError as error:
            say(f"{self.folder}: what was simplified is not kept: {error.strerror or error}")

    def _anybody_s(self, say: Say) -> bool:
        """Whether anybody could have put a program there; said."""
        why = anybody_may_write(self.folder)
        if why:
            say(f"{why}: traces are neither taken from there nor kept")
        return bool(why)

    def entries(self) -> list[Entry]:
        """All entries, the most recently used first."""
        found = (listed(folder) for folder in self._folders())
        return sorted((one for one in found if one), key=lambda one: one.used_s, reverse=True)

    def clear(self) -> tuple[int, int]:
        """Remove the entries that nobody reads; returns how many were removed and how many stay."""
        folders = list(self._folders())
        removed = sum(self._remove(folder) for folder in folders)
        for folder in self.folder.glob(f".*{_PARTIAL}*"):
            shutil.rmtree(folder, ignore_errors=True)
        for claim in self.claims.files():
            claim.unlink(missing_ok=True)
        return removed, len(folders) - removed

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
        handle = lock_alone(entry)
        if not handle and (entry / LOCK).exists():
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
            if time.time() - changed_s(folder) > _STALE_S:
                shutil.rmtree(folder, ignore_errors=True)
        for claim in self.claims.files():
            if time.time() - changed_s(claim) > _STALE_S:  # one too early: it is traced twice
                claim.unlink(missing_ok=True)

    def _folders(self) -> Iterator[Path]:
        if self.folder.is_dir():
            yield from sorted(
                path for path in self.folder.iterdir() if path.is_dir() and path.name[0] != "."
            )


def traces_folder() -> Path:
    """Where traces are kept: the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "vlacut" / "traces"


def key_of_request(*asked: Any) -> str:
    """The key of an entry: a digest of what was asked for, and of this format."""
    return hashlib.sha256(json.dumps([_FORMAT, *asked]).encode()).hexdigest()
