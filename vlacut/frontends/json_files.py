"""JSON files of other people's checkpoints: an object each, of no more than a size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vlacut.errors import ModelError

_MOST_BYTES = 16 << 20


def read_json(file: Path) -> dict[str, Any]:
    """An object of a JSON file; ModelError if it is none."""
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ModelError(f"{file}: is larger than {_MOST_BYTES} bytes")
        said = json.loads(file.read_bytes())
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file}: is no JSON: {error}") from error
    if not isinstance(said, dict):
        raise ModelError(f"{file}: is no JSON object")
    return said
