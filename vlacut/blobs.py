"""Blobs: files named by the SHA-256 of their content.

`python -m vlacut.blobs FOLDER` copies pieces of files into blobs, in a process of its own, so that
copying a checkpoint and tracing a model take a processor each and no common lock. A line of JSON
[path, offset, bytes] on standard input is one blob; the line of JSON on standard output is its
digest, or {"errno", "message"}. It ends with its input, so it does not outlive who asked.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

Buffer = bytes | memoryview

CHUNK = 1 << 25
_SYNCED_BYTES = 1 << 20  # of smaller ones, whoever syncs the folder can sync many at once


class BlobFolder:
    """A folder of blobs that several threads may write to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._syncing = ThreadPoolExecutor(1, "blobs-sync")

    def write(self, chunks: Iterable[Buffer]) -> str:
        """Write a blob under a passing name while it is hashed; returns its digest, its name."""
        passing = self._folder / f"passing-{os.getpid()}-{id(chunks)}"
        digest, size = hashlib.sha256(), 0
        with passing.open("wb", buffering=0) as file:
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                _write(file.fileno(), chunk)
        path = passing.rename(passing.with_name(digest.hexdigest()))
        if size >= _SYNCED_BYTES:
            self._syncing.submit(_sync, path)
        return digest.hexdigest()

    def close(self) -> None:
        """Wait until what was written is on the disk, the smallest excepted."""
        self._syncing.shutdown()


def _write(file: int, chunk: Buffer) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(file, view) :]


def _sync(path: Path) -> None:
    """Let the disk write while others are hashed."""
    with path.open("rb") as file:
        os.fsync(file)


def file_chunks(path: str, offset: int, nbytes: int) -> Iterator[memoryview]:
    """Bytes of a file, read, not mapped, so that its pages are not this process's memory.

    Every piece is gone when the next one is asked for. Raises EOFError if the file ends early.
    """
    left = nbytes
    piece = memoryview(bytearray(min(left, CHUNK)))
    with open(path, "rb", buffering=0) as file:
        file.seek(offset)
        while left:
            read = file.readinto(piece[: min(left, len(piece))])
            if not read:
                raise EOFError(f"{path} ends {left} bytes early")
            left -= read
            yield piece[:read]


class BlobProcess:
    """Copies pieces of files into blobs, one at a time, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "vlacut.blobs", os.fspath(folder)]
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
        """End the process when it is through with its last blob."""
        self._process.communicate()


def main() -> None:
    """See the module's docstring."""
    folder = BlobFolder(Path(sys.argv[1]))
    for line in sys.stdin:
        answer: str | dict[str, object]
        try:
            answer = folder.write(file_chunks(*json.loads(line)))
        except EOFError as error:
            answer = {"message": str(error)}
        except OSError as error:
            answer = {"errno": error.errno, "message": error.strerror}
        try:
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            os._exit(1)  # who asked was killed: nobody is there to tell
    folder.close()


if __name__ == "__main__":
    main()
