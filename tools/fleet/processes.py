"""Processes of this machine (Linux): whose a port is, what they hold, servers of our own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any


def listens_at(address: str) -> int:
    """The process that listens at `HOST:PORT`."""
    port = f":{int(address.rpartition(':')[2]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    (inode,) = (row[9] for row in rows if row[1].endswith(port) and row[3] == "0A")
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(link) == f"socket:[{inode}]":
                return int(link.parts[2])
    raise LookupError(f"nobody listens at {address}")


def begun_by_us(name: str) -> list[int]:
    """Processes below this one whose command line begins so."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            said = (path / "cmdline").read_bytes().decode(errors="replace")
            if said.startswith(name) and os.getpid() in _ancestors(int(path.name)):
                found.append(int(path.name))
    return found


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 1:
        stat = Path(f"/proc/{pid}/stat").read_text()
        pid = int(stat.rpartition(")")[2].split()[1])
        yield pid


def holds(pid: int) -> tuple[float, int]:
    """Megabytes of memory that a process has to itself, and its open descriptors."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    own = sum(int(line.split()[1]) for line in rollup if line.startswith("Private_"))
    return own * 1024 / 1e6, len(os.listdir(f"/proc/{pid}/fd"))


@contextmanager
def served(*words: str | Path, count: int = 1) -> Iterator[list[dict[str, Any]]]:
    """Servers by the command line; what each says of itself."""
    command = [sys.executable, "-m", "vlacut", "serve", *map(str, words), "--port", "0", "--json"]
    with ExitStack() as stack:
        children: list[subprocess.Popen[str]] = []
        for _ in range(count):
            child = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            stack.callback(child.wait)
            stack.callback(child.terminate)
            children.append(child)
        said = []
        for child in children:
            assert child.stdout is not None
            said.append(json.loads(child.stdout.readline()) | {"pid": child.pid})
        yield said
