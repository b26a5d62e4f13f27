"""What `python PACK` runs: unpacks a half and its runtime, and starts it.

It stands in the pack as `__main__.py`, so it needs the standard library alone. The half is unpacked
once, beside others of its digest in the user's cache ($XDG_CACHE_HOME/vlacut/packs), and is checked
by whoever opens it; the runtime is unpacked anew each time.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import zipfile
from hashlib import sha256
from pathlib import Path

_LEAST = (3, 10)
_BUNDLE, _MANIFEST, _HALF = "bundle/", "bundle/manifest.json", "bundle/half"


def main(pack: Path, words: list[str]) -> int:
    """Run a pack with the words after its name; the exit status."""
    if sys.version_info < _LEAST:
        return _failed(f"needs Python {'.'.join(map(str, _LEAST))} or newer")
    try:
        with zipfile.ZipFile(pack) as archive:
            if words[:1] == ["--unpack"]:
                return _unpack(archive, words[1:])
            bundle = _bundle(archive, _cache())
            with tempfile.TemporaryDirectory(prefix="vlacut-") as folder:
                _runtime(archive, Path(folder))
                return _start(bundle, archive.read(_HALF).decode().strip(), words)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        return _failed(f"{pack}: cannot be unpacked: {error}; copy it again, or make room")


def _start(bundle: Path, side: str, words: list[str]) -> int:
    try:
        from vlacut.api.pack.running import start
    except ImportError as error:
        return _failed(f"needs {error.name}: pip install {error.name}")
    return start(bundle, side, words)


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "vlacut" / "packs"


def _bundle(archive: zipfile.ZipFile, cache: Path) -> Path:
    """The half, unpacked; it takes its place once it is whole."""
    manifest, half = archive.read(_MANIFEST), archive.read(_HALF).decode().strip()
    target = cache / f"{sha256(manifest).hexdigest()}-{half}"
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = Path(tempfile.mkdtemp(prefix=".partial-", dir=cache))
    try:
        _extract(archive, made)
        (made / _BUNDLE).rename(target)
    except OSError:
        if not target.is_dir():  # another process was first
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return target


def _extract(archive: zipfile.ZipFile, folder: Path) -> None:
    """Unpack the half, for this user alone to write: it is run where it lies."""
    before = os.umask(0o077)
    try:
        for name in archive.namelist():
            if name.startswith(_BUNDLE):
                archive.extract(name, folder)
    finally:
        os.umask(before)


def _runtime(archive: zipfile.ZipFile, folder: Path) -> None:
    """Unpack the wheel, and let Python find it before any other vlacut."""
    wheel = next(name for name in archive.namelist() if name.endswith(".whl"))
    with archive.open(wheel) as file, zipfile.ZipFile(file) as inner:
        inner.extractall(folder)
    sys.path.insert(0, str(folder))


def _unpack(archive: zipfile.ZipFile, words: list[str]) -> int:
    """`--unpack FOLDER`: the wheel and the half, for who installs them as they like."""
    if len(words) != 1:
        return _failed("--unpack takes a folder")
    folder = Path(words[0])
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        return _failed(f"{folder}: is not empty")
    wheel = next(name for name in archive.namelist() if name.endswith(".whl"))
    archive.extract(wheel, folder)
    _extract(archive, folder)
    sys.stdout.write(f"unpacked {folder / wheel} and {folder / _BUNDLE}\n")
    return 0


def _failed(text: str) -> int:
    sys.stderr.write(f"vlacut: {text}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[0]), sys.argv[1:]))
