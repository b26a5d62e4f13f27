"""Bundles whose engines have one thread.

To restrict the process to a processor is not enough: ONNX Runtime gives each thread of its pools a
processor of its own, whatever its process may use (seen: 1.2 processors' time a second of one).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vlacut.bundle.reading import read_bundle
from vlacut.bundle.writing import write_manifest


def with_one_thread(path: Path) -> Path:
    """Write into a bundle, in place, that engines have one thread; its path."""
    manifest = read_bundle(path).manifest
    recipes = {side: {**recipe, "threads": "1"} for side, recipe in manifest.recipes.items()}
    write_manifest(path, replace(manifest, recipes=recipes))
    return path
