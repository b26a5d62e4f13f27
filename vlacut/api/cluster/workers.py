"""The servers of a cluster on fixed machines, as `cluster.toml` lists them.

[[workers]]
address = "10.0.0.5:7000"  # where robots reach it
metrics = "10.0.0.5:9100"  # of its vlacut serve --metrics, where the others and people ask it
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlacut.api.cluster.reading import read_table
from vlacut.bundle.staging import write_file
from vlacut.errors import InputError
from vlacut.runtime.cloud.directory import Standing
from vlacut.runtime.wire.moving import pack_place
from vlacut.runtime.wire.sockets import parse_address

_KEYS = ("address", "metrics")


@dataclass(frozen=True)
class Worker:
    """A server of a cluster.

    Attributes:
        address: `HOST:PORT` where robots reach it.
        metrics: host and port number of its page of metrics.
    """

    address: str
    metrics: tuple[str, int]


def read_workers(path: Path) -> tuple[Worker, ...]:
    """The servers that a file lists.

    Raises InputError if it cannot be read, lists none or one twice, or an address does not parse.
    """
    table = read_table(path)
    listed = table.pop("workers", None)
    if table or not isinstance(listed, list) or not listed:
        odd = f"has {', '.join(sorted(table))}" if table else "lists no server"
        raise InputError(f"{path}: {odd}; write a [[workers]] with address and metrics for each")
    found = tuple(_worker(path, number, entry) for number, entry in enumerate(listed, 1))
    for number, key in (
        (len({one.address for one in found}), "address"),
        (len({one.metrics for one in found}), "metrics"),
    ):
        if number < len(found):
            raise InputError(f"{path}: two servers have one {key}; give each its own")
    return found


def write_workers(path: Path, standings: Iterable[Standing]) -> None:
    """Write a list of servers that run: one that `read_workers` reads, or, into a .json file, one
    that Prometheus reads (`file_sd_configs`).

    Raises InputError if a server has no page of metrics, or the file cannot be written.
    """
    listed = [(one.address, one.metrics) for one in standings]
    for address, metrics in listed:
        if not metrics:
            raise InputError(f"{address} has no page of metrics: give the cluster metrics = PORT")
    if path.suffix == ".json":
        targets = [
            {"targets": [metrics], "labels": {"server": address}} for address, metrics in listed
        ]
        text = json.dumps(targets, indent=2) + "\n"
    else:
        entries = (
            f"[[workers]]\naddress = {json.dumps(address)}\nmetrics = {json.dumps(metrics)}\n"
            for address, metrics in listed
        )
        text = "\n".join(entries)
    try:
        write_file(path, text)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


def _worker(path: Path, number: int, entry: Any) -> Worker:
    where = f"{path}: server {number}"
    if not isinstance(entry, dict) or sorted(entry) != sorted(_KEYS):
        raise InputError(f"{where}: needs address and metrics, and nothing else")
    try:
        for key in _KEYS:
            if not isinstance(entry[key], str):
                raise InputError(f"{key} is no text")
        pack_place(entry["address"])
        return Worker(entry["address"], parse_address(entry["metrics"]))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
