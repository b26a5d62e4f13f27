"""Blobs: files named by the SHA-256 of their content.

`python -m vlacut.split.blobs FOLDER` copies pieces of files into blobs, in its own process. So a
checkpoint is copied on one processor while a model is traced on another, without a common lock.
Each line of standard input, a JSON list [path, offset, bytes], asks for one blob. The answer, a
line of JSON on standard output, is its digest or {"errno", "message"}. The process ends when its
input does, so it does not outlive its caller.
"""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

Buffer = bytes | memoryview

_BUFFER_BYTES = 1 << 23
_BLOCK = 4096  # what direct writes must be multiples of, on every disk that there is


class BlobWriter:
    """Writes blobs into a folder, one after the other, past the page cache where that can be.

    Through the cache, copying 5 GB took 8.5 s of a processor; past it, 3.6 s. One buffer serves all
    blobs, since fresh memory costs as much as copying does.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._buffer = memoryview(mmap.mmap(-1, _BUFFER_BYTES))  # aligned, as direct writes must be

    def copy(self, path: str, offset: int, nbytes: int) -> str:
        """Make a blob of bytes of a file; returns its digest. EOFError if the file ends early."""
        with open(path, "rb", buffering=0) as source:
            source.seek(offset)
            return self._blob(nbytes, source.readinto, path)

    def write(self, data: Buffer) -> str:
        """Make a blob; returns its digest."""
        left = memoryview(data).cast("B")

        def take(into: memoryview) -> int:
            nonlocal left
            taken = min(len(into), len(left))
            into[:taken], left = left[:taken], left[taken:]
            return taken

        return self._blob(len(left), take, "memory")

    def _blob(self, nbytes: int, take: Callable[[memoryview], int | None], where: str) -> str:
        """Hash and write as many bytes as `take` gives, under a passing name."""
        passing = self._folder / f"passing-{os.getpid()}-{id(self)}"
        digest, left = hashlib.sha256(), nbytes
        file = _open_direct(passing)
        try:
            while left:
                held = _fill(self._buffer[: min(left, _BUFFER_BYTES)], take)
                if not held:
                    raise EOFError(f"{where} ends {left} bytes early")
                digest.update(self._buffer[:held])
                _write(file, self._buffer[: -(-held // _BLOCK) * _BLOCK])
                left -= held
            os.ftruncate(file, nbytes)
        finally:
            os.close(file)
        passing.rename(passing.with_name(digest.hexdigest()))
        return digest.hexdigest()


def _fill(buffer: memoryview, take: Callable[[memoryview], int | None]) -> int:
    """Fill a buffer, or as much of it as there is: only the last write may end inside a block."""
    held = 0
    while held < len(buffer) and (taken := take(buffer[held:])):
        held += taken
    return held


def _write(file: int, data: memoryview) -> None:
    while data:
        data = data[os.write(file, data) :]


def _open_direct(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        return os.open(path, flags | os.O_DIRECT, 0o666)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        path.unlink(missing_ok=True)  # Linux makes the file before it finds that it cannot
        return os.open(path, flags, 0o666)


class BlobProcess:
    """Copies pieces of files into blobs, one at a time, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "vlacut.split.blobs", os.fspath(folder)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    def copy(self, path: str, offset: int, nbytes: int) -> str:
        """The digest of the blob. Raises EOFError if the file ends early, or OSError."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([path, offset, nbytes]) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or '{"message": "the copying ended"}')
        if isinstance(answer, str):
            return answer
        if "errno" in answer:
            raise OSError(answer["errno"], answer["message"], path)
        raise EOFError(answer["message"])

    def close(self) -> None:
        """End the process once its last blob is done."""
        self._process.communicate()


def main() -> None:
    """See the module's docstring."""
    writer = BlobWriter(Path(sys.argv[1]))
    for line in sys.stdin:
        answer: str | dict[str, object]
        try:
            answer = writer.copy(*json.loads(line))
        except EOFError as error:
            answer = {"message": str(error)}
        except OSError as error:
            answer = {"errno": error.errno, "message": error.strerror}
        try:
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            os._exit(1)  # who asked was killed: nobody is there to tell


if __name__ == "__main__":
    main()
