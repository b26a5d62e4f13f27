"""What `inspect` and `report` say of a bundle as plain data."""

from __future__ import annotations

from typing import Any

from vlacut.bundle.contents import Manifest
from vlacut.bundle.opened import Bundle
from vlacut.cli.show.report import plan_json


def inspect_json(bundle: Bundle) -> dict[str, Any]:
    """The plan's figures, and what the bundle was made with."""
    manifest = bundle.manifest
    return {
        **plan_json(bundle.plan),
        "digest": bundle.digest.hex(),
        "half": bundle.half.value if bundle.half else "",
        "format": manifest.format,
        "backend": manifest.backend,
        "recipe": recipes(manifest),
        "pipeline": manifest.pipeline,
        "tools": dict(manifest.tools),
        "files": {name: entry.nbytes for name, entry in bundle.files.items()},
    }


def recipes(manifest: Manifest) -> dict[str, dict[str, str]]:
    """What the executors must know, by side."""
    return {side: dict(recipe) for side, recipe in manifest.recipes.items()}
