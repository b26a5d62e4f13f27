"""The cache of packed parts: packed once on a machine, mapped by every session of every process.

    KEY.engine        the part, as ONNX, with the places of its weights: see `packing`
    KEY.json          its record, without which it is not there
    SHA256.weights    a weight and what this processor reads in its place

They are in `onnxruntime/packed` of the folder of engines, by the rules of
`vlacut.bundle.engine_records`: files come by a rename, and what is not what its record or its name
says is packed anew. What was not used for longest goes when there is more than
`$VLACUT_PACKED_LIMIT` (32GB) of it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from vlacut.bundle.engine_records import (
    FORMAT,
    EngineRecord,
    engines_folder,
    find_engine,
    keep_engine,
    sha256_of,
)
from vlacut.bundle.private import PrivateFolder, anybody_may_write, remove_leftovers
from vlacut.errors import BackendError
from vlacut.hardware.link import parse_bytes
from vlacut_backends.onnxruntime.external_data import stored_in
from vlacut_backends.onnxruntime.opening import open_session
from vlacut_backends.onnxruntime.packing import (
    open_packed,
    own_files,
    pack,
    same_numbers,
)
from vlacut_backends.onnxruntime.room import locked, make_room, note_use

_LEAST = 1 << 20  # bytes of weights, below which files are not worth it
_LIMIT = "VLACUT_PACKED_LIMIT"
_PASSING = ".packing"
_PROCESSOR = ("vendor_id", "model name", "flags", "CPU implementer", "CPU part", "Features")
_log = logging.getLogger("vlacut.onnxruntime")


@dataclass(frozen=True)
class PackedPart:
    """A part that is to be packed: its ONNX file, its name, its recipe, and where weights are."""

    model: bytes
    name: str
    recipe: Mapping[str, str]
    root: Path

    def session(self) -> ort.InferenceSession:
        """A session that maps packed weights, which are packed first where they are not there yet.

        Where they cannot be kept the session has a copy for itself, and a warning says why.
        Raises BackendError if the part cannot be loaded, or somebody else could have made what is
        kept.
        """
        if sum(one.nbytes for one in stored_in(self.model)) < _LEAST:
            return self._own()
        folder = engines_folder() / "onnxruntime" / "packed"
        try:
            found = self._found(folder)
            if found is not None:
                return found
            try:
                return self._made(folder)
            except BackendError as error:
                why = str(error)
        except OSError as error:
            why = f"{folder}: {error.strerror or error}"
        _log.warning("%s: this session has packed weights for itself: %s", self.name, why)
        return self._own()

    @property
    def key(self) -> str:
        """What it is called; it depends on all that packing does."""
        depends = {
            "part": hashlib.sha256(self.model).hexdigest(),
            "recipe": dict(self.recipe),
            "onnxruntime": ort.__version__,
            "processor": _processor(),
        }
        return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()

    def _own(self) -> ort.InferenceSession:
        return open_session(self.model, self.name, self.recipe, self.root)

    def _open(self, packed: bytes, folder: Path) -> ort.InferenceSession:
        return open_packed(packed, self.name, self.recipe, self.root, folder)

    def _found(self, folder: Path) -> ort.InferenceSession | None:
        """What is kept; None where nothing is, or it is not as it was made."""
        if not folder.is_dir():
            return None
        with locked(folder):
            if find_engine(folder, self.key) is None:
                return None
            packed = (folder / f"{self.key}.engine").read_bytes()
            if not all(_whole(folder / file) for file in own_files(packed)):
                return None
            note_use(folder, self.key)
            return self._open(packed, folder)

    def _made(self, folder: Path) -> ort.InferenceSession:
        """Pack it and keep it. Raises OSError, BackendError."""
        start, limit = time.monotonic(), parse_bytes(os.environ.get(_LIMIT) or "32GB")
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder, _PASSING)
        passing = PrivateFolder(folder, _PASSING)
        try:
            packed, own = pack(self.model, self.name, self.recipe, self.root, passing.path)
            files = own_files(packed)
            if sum(files.values()) > limit:
                raise BackendError(f"they are more than {_LIMIT}, which is {limit / 1e9:.3g} GB")
            if not same_numbers(own, self._open(packed, passing.path)):
                raise BackendError("read again, they do not give the same numbers")
            made = passing.path / "part"
            made.write_bytes(packed)
            record = self._record(made, time.monotonic() - start)
            with locked(folder, alone=True):
                for file in files:
                    (passing.path / file).replace(folder / file)
                keep_engine(folder, self.key, made, record)
                make_room(folder, self.key, limit)
                return self._open(packed, folder)
        finally:
            passing.remove()

    def _record(self, made: Path, seconds: float) -> EngineRecord:
        return EngineRecord(
            format=FORMAT,
            part=Path(self.name).stem,
            device=platform.processor() or platform.machine(),
            software=f"ONNX Runtime {ort.__version__}",
            via="prepacking",
            recipe=dict(self.recipe),
            nbytes=made.stat().st_size,
            sha256=sha256_of(made),
            seconds=seconds,
            host_bytes=0,
            workspace_bytes=0,
            verified="the session that packed it",
            max_error=0.0,
            allowed=0.0,
            device_ms=0.0,
            graph=False,
        )


def _whole(file: Path) -> bool:
    """Whether a weight is there as it was packed. BackendError if anybody may write it."""
    why = anybody_may_write(file)
    if why:
        raise BackendError(
            f"{why}, and what a policy does depends on it: chmod o-w, or set VLACUT_ENGINES to a "
            f"folder of your own"
        )
    whole = file.is_file() and sha256_of(file) == file.stem
    if not whole:
        _log.warning("%s is altered or missing; its part is packed again", file)
    return whole


def _processor() -> list[str]:
    """What says which kernels a processor has."""
    lines: list[str] = []
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            lines += (line.strip() for line in file if line.partition(":")[0].strip() in _PROCESSOR)
    except OSError:
        lines.append(platform.processor())
    return [platform.machine(), *dict.fromkeys(lines)]
