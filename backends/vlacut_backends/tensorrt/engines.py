"""Where engines are: one file for each content, with a record beside it.

    KEY.engine     what TensorRT made
    KEY.json       what it is and how it was verified: without it there is no engine
    BUNDLE-SIDE.json   the record of a build: every part, its key, and its record again
    SM-VERSION.timing  TensorRT's timing cache

KEY is the SHA-256 of all that an engine depends on: the part (whose file names its weights by
content), TensorRT's version, CUDA's, the GPU and the recipe. So bundles share engines, and an
engine is never run where it was not built for. Files are written beside, synced and renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlacut.errors import BackendError, BundleError
from vlacut.serde import from_json, to_json
from vlacut_backends.tensorrt.driver import Gpu

FORMAT = 1
_MAX_RECORD_BYTES = 1 << 24
_VARIABLE = "VLACUT_ENGINES"


@dataclass(frozen=True)
class EngineRecord:
    """An engine, as it was built and verified.

    Attributes:
        format: of this record.
        part: name of the part it was first built for.
        gpu, tensorrt, via: what built it: the GPU, the version, `python` or `trtexec`.
        recipe: with which.
        nbytes, sha256: of the engine's file.
        seconds: that building took.
        host_bytes: most memory that the building process held, of the host.
        workspace_bytes: that tactics were allowed.
        verified: what its outputs were compared with: `golden`, or `nothing` where the bundle has
            no golden tensors of the part.
        max_error: largest difference from them, as a share of the largest magnitude in a tensor.
        allowed: the largest that was accepted.
        device_ms: median time of a run on the device, by its events.
        graph: whether runs are launched as a CUDA graph.
    """

    format: int
    part: str
    gpu: str
    tensorrt: str
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


def engines_folder(named: Path | None = None) -> Path:
    """Where engines are kept: as named, else $VLACUT_ENGINES, else in the user's cache."""
    if named is not None:
        return named
    if os.environ.get(_VARIABLE):
        return Path(os.environ[_VARIABLE])
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "vlacut" / "engines"


def engine_key(model: Path, recipe: Mapping[str, str], tensorrt: str, gpu: Gpu) -> str:
    """The name of the engine of a part here."""
    depends = {
        "part": sha256_of(model),
        "recipe": dict(recipe),
        "tensorrt": tensorrt,
        "cuda": gpu.cuda,
        "gpu": [gpu.name, gpu.sm, gpu.multiprocessors],
    }
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()


def find_engine(folder: Path, key: str) -> EngineRecord | None:
    """The record of an engine; None if it was not built, or its file is not what was built.

    Raises BackendError if the record is none.
    """
    path, engine = folder / f"{key}.json", folder / f"{key}.engine"
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
    """Give a built and verified engine its name; the record last, for without it there is none."""
    _sync(made)
    made.replace(folder / f"{key}.engine")
    write_record(folder / f"{key}.json", to_json(record))


def write_record(path: Path, data: Any) -> None:
    """Write JSON beside its place, sync it, and put it there."""
    passing = path.with_name(f".{path.name}.partial-{os.getpid()}")
    passing.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", encoding="utf-8")
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
