"""What a cluster on Ray is, as `cluster.toml` says it.

[ray]
bundles = ["/srv/bundles/pick.vlacut"]  # at this path on every machine
workers = 4                             # servers, each with devices of its own
most_workers = 8                        # up to so many by load; without it, always `workers`
gpus = 1                                # of each; 0 where engines run on the processor
port = 7000                             # or the next that is free
metrics = 9100                          # likewise, of its page of metrics; without it, none
tls = "/etc/vlacut/cloud"               # the folder of keys, on every machine

What else may stand there are `cpus` of each, `memory`, `robots`, `insecure`, `emulate` and
`provider`, as the options of `vlacut serve` are, and `host`, where robots do not reach a machine
at the address that Ray has for it.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from vlacut.api.cluster.reading import read_table
from vlacut.errors import InputError, suggestion

_WORDS = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false"}


@dataclass(frozen=True)
class RaySettings:
    """The keys of the table, see the module's docstring."""

    bundles: tuple[str, ...]
    workers: int
    most_workers: int = 0
    gpus: float = 1.0
    cpus: float = 1.0
    port: int = 7000
    metrics: int = 0
    host: str = ""
    tls: str = ""
    memory: str = ""
    robots: int = 64
    insecure: bool = False
    emulate: bool = False
    provider: str = ""


def read_settings(path: Path) -> RaySettings:
    """What a file says of a cluster on Ray.

    Raises InputError if it cannot be read, a key is unknown, missing, or has another type.
    """
    table = read_table(path)
    found = table.get("ray")
    if not isinstance(found, dict) or len(table) > 1:
        raise InputError(f"{path}: has to hold one table, [ray], with bundles and workers")
    known = {field.name: field for field in fields(RaySettings)}
    for name in found:
        if name not in known:
            raise InputError(f"{path}: ray.{name} is unknown; {suggestion(name, known)}")
    for name, field in known.items():
        if field.default is MISSING and name not in found:
            raise InputError(f"{path}: ray.{name} is missing")
    made = {name: _value(path, name, str(known[name].type), value) for name, value in found.items()}
    settings = RaySettings(**made)
    if settings.workers < 1 or settings.robots < 1 or not settings.bundles:
        raise InputError(f"{path}: needs one bundle, worker and robot at least")
    if settings.most_workers and settings.most_workers < settings.workers:
        raise InputError(f"{path}: ray.most_workers is no fewer than workers, or left out")
    if min(settings.gpus, settings.cpus) < 0 or not 0 < settings.port < 65536:
        raise InputError(f"{path}: gpus and cpus are 0 or more, and port is one to listen on")
    if not 0 <= settings.metrics < 65536:
        raise InputError(f"{path}: ray.metrics is a port to listen on, or left out")
    return settings


def _value(path: Path, name: str, kind: str, value: Any) -> Any:
    """A value of the type that its field has."""
    if kind.startswith("tuple"):
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            return tuple(value)
        raise InputError(f"{path}: ray.{name} has to be a list of texts")
    fits = {
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, (int, float)) and not isinstance(value, bool),
        "str": isinstance(value, str),
        "bool": isinstance(value, bool),
    }
    if not fits[kind]:
        raise InputError(f"{path}: ray.{name} has to be {_WORDS[kind]}")
    return value
