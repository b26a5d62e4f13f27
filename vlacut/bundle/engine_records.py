"""Engines that are built where they run: the files, the records, and who builds them.

    KEY.engine         what a back end built
    KEY.json           what it is and how it was verified: without it there is no engine
    BUNDLE-SIDE.json   the record of a build: the side's parts, with their keys and records

A key is a digest of all that an engine depends on; the back end makes it. So bundles share engines,
and no engine runs on a machine it was not built for. Files are written beside, synced and renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vlacut.bundle.private import anybody_may_write, beside
from vlacut.bundle.serde import from_json, to_json
from vlacut.errors import BackendError, BundleError, Progress
from vlacut.hardware import Side

if TYPE_CHECKING:
    from vlacut.bundle.opened import Bundle

FORMAT = 1
GOLDEN, NOTHING = "golden", "nothing"
_MAX_RECORD_BYTES = 1 << 24
_VARIABLE = "VLACUT_ENGINES"


@dataclass(frozen=True)
class EngineRecord:
    """An engine, as it was built and verified.

    Attributes:
        format: of this record.
        part: name of the part it was first built for.
        device, software: what built it: the GPU, and the library with its version.
        via: the interface of the library that was used.
        recipe: the recipe it was built by.
        nbytes, sha256: size and digest of the engine's file.
        seconds: how long the build took.
        host_bytes: the most host memory that the building process held.
        workspace_bytes: device memory that tactics were allowed.
        verified: what its outputs were compared with: `golden`, or `nothing` if the bundle has no
            golden tensors of the part.
        max_error: the largest difference from them, as a share of the largest magnitude in a
            tensor.
        allowed: the largest error that was accepted.
        device_ms: median time of a run on the device, by its own clock.
        graph: whether its runs are launched as a CUDA graph.
    """

    format: int
    part: str
    device: str
    software: str
    via: str
    recipe: Mapping[str, str]
    nbytes: int
    sha256: str
    seconds: float
    host_bytes: int
    workspace_bytes: int
    verified: str
    max_error: float
    allowed: float
    device_ms: float
    graph: bool


@dataclass(frozen=True)
class BuiltPart:
    """A part with its engine; `built` says whether this build made it, or found it."""

    name: str
    key: str
    built: bool
    engine: EngineRecord


@dataclass(frozen=True)
class BuildRecord:
    """What `vlacut build` did, for one side of one bundle.

    Attributes:
        format: of this record.
        bundle: digest of the bundle.
        program: name of the model.
        side: whose parts these are.
        device, software: what built them.
        folder: where the engines are.
        seconds: how long the whole build took.
        parts: in the plan's order.
    """

    format: int
    bundle: str
    program: str
    side: Side
    device: str
    software: str
    folder: str
    seconds: float
    parts: tuple[BuiltPart, ...]


class EngineBuilder(Protocol):
    """A back end's half that builds engines on the device."""

    def build(self, bundle: Bundle, side: Side, via: str, progress: Progress) -> BuildRecord:
        """Build and verify what is not there yet of a side's parts, and write the record.

        Args:
            bundle: open and checked.
            side: the side that this machine is.
            via: an interface of the back end's library; empty for its own choice.
            progress: called with what is being done, how much is done, and how much there is.

        Raises BackendError; engines built before the failing part stay.
        """


def engines_folder() -> Path:
    """Where engines are kept: $VLACUT_ENGINES, else the user's cache."""
    if os.environ.get(_VARIABLE):
        return Path(os.environ[_VARIABLE])
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "vlacut" / "engines"


def find_engine(folder: Path, key: str) -> EngineRecord | None:
    """The record of an engine; None if it was not built, or its file is not what was built.

    Raises BackendError if the record is none, or somebody else could have made the engine, which
    is code of the device and of the host.
    """
    path, engine = folder / f"{key}.json", folder / f"{key}.engine"
    for place in (folder, engine, path):
        why = anybody_may_write(place)
        if why:
            raise BackendError(
                f"{why}, and an engine runs as code: chmod o-w, or set {_VARIABLE} to a folder of "
                f"your own, and build again"
            )
    if not path.is_file() or not engine.is_file():
        return None
    if path.stat().st_size > _MAX_RECORD_BYTES:
        raise BackendError(f"{path}: is larger than any record; remove it and build again")
    try:
        record = from_json(EngineRecord, json.loads(path.read_bytes()), path.name)
    except (ValueError, BundleError) as error:
        raise BackendError(
            f"{path}: is no record of an engine ({error}); remove it and build again"
        ) from error
    whole = engine.stat().st_size == record.nbytes and sha256_of(engine) == record.sha256
    return record if whole and record.format == FORMAT else None


def keep_engine(folder: Path, key: str, made: Path, record: EngineRecord) -> None:
    """Give a built and verified engine its name. The record comes last: no record, no engine."""
    _sync(made)
    made.replace(folder / f"{key}.engine")
    write_record(folder / f"{key}.json", record)


def write_record(path: Path, record: EngineRecord | BuildRecord) -> None:
    """Write a record beside its place, sync it, and put it there."""
    passing = beside(path)
    text = json.dumps(to_json(record), indent=1, sort_keys=True) + "\n"
    passing.write_text(text, encoding="utf-8")
    _sync(passing)
    passing.replace(path)
    _sync(path.parent)


def sha256_of(path: Path) -> str:
    """The digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
