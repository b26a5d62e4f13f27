"""What a traced program was made of, and whether that is still so."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


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
