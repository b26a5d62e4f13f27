"""Model checks that are kept with a trace in the cache.

A program that comes from the cache has no module beside it. What it was compared with when it was
traced still holds for the same operators and weights; so the record is kept, under a digest of both
as they were compared, passes through. Another precision, say, has another digest, and is compared
anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from vlacut.bundle.model_check import ModelCheck
from vlacut.bundle.serde import from_json, to_json
from vlacut.errors import BundleError
from vlacut.ir.annotation import EXAMPLE, Key
from vlacut.ir.fingerprint import fingerprint
from vlacut.ir.program import Program

_FILE = "checks.json"
_MOST_BYTES = 2 << 30  # of weights that are read for a digest
_UNREADABLE = (OSError, ValueError, TypeError)

Say = Callable[[str], None]


@dataclass(frozen=True)
class KeptChecks:
    """The checks of one entry of the cache.

    Attributes:
        folder: of the entry.
        say: is told why a record cannot be read or kept.
    """

    folder: Path
    say: Say

    def find(self, program: Program) -> ModelCheck | None:
        """The record for a program, as it is now; None if it was not compared like that."""
        record = self._read().get(_digest(program))
        if record is None:
            return None
        try:
            found = from_json(ModelCheck, record, str(self.folder / _FILE))
        except BundleError as error:
            self.say(f"{error}; it is compared anew")
            return None
        return replace(found, against=f"{found.against}, when it was traced")

    def keep(self, program: Program, check: ModelCheck) -> None:
        """Keep a record for a program, as it is now."""
        digest = _digest(program)
        if not digest or not check.against:
            return
        data = json.dumps({**self._read(), digest: to_json(check)})
        partial = self.folder / f".{_FILE}.{os.getpid()}"
        try:
            partial.write_text(data, encoding="utf-8")
            partial.replace(self.folder / _FILE)
        except OSError as error:
            self.say(f"{self.folder}: the check is not kept: {error.strerror or error}")

    def _read(self) -> dict[str, object]:
        try:
            found = json.loads((self.folder / _FILE).read_bytes())
            return dict(found)
        except FileNotFoundError:
            return {}
        except _UNREADABLE as error:
            self.say(f"{self.folder / _FILE}: damaged records ({error}); it is compared anew")
            return {}


KEPT_CHECKS: Key[KeptChecks] = Key("kept-checks", "the trace cache")


def _digest(program: Program) -> str:
    """Of operators, weights and example; empty where weights are too large, or have no content."""
    digest, seen, room = hashlib.sha256(), set[str](), _MOST_BYTES
    for phase in program.phases:
        graph = phase.model.graph
        digest.update(f"{phase.name} {phase.trips} {sorted(phase.carried.items())}".encode())
        digest.update(fingerprint(graph).encode())
        for name, value in graph.initializers.items():
            if name in seen:
                continue
            seen.add(name)
            tensor = value.const_value
            if tensor is None or (room := room - tensor.nbytes) < 0:
                return ""
            digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
            digest.update(tensor.tobytes())
    for name, array in sorted((EXAMPLE.find(program) or {}).items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
