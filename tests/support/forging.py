"""Bundles altered by who can write files: the manifest fits what was changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def forge(bundle: Path, change: Callable[[dict[str, object]], None]) -> None:
    """Change the manifest and sign it again, as an attacker who can write files would."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    data = json.dumps(manifest).encode()
    (bundle / "manifest.json").write_bytes(data)
    (bundle / "manifest.json.sha256").write_text(hashlib.sha256(data).hexdigest() + "\n")


def forge_file(bundle: Path, name: str, data: bytes) -> None:
    """Change a file, and the manifest with it."""
    (bundle / name).write_bytes(data)
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "nbytes": len(data), "kind": "FileEntry"}

    def change(manifest: dict[str, Any]) -> None:
        manifest["files"][name] = entry

    forge(bundle, change)
