"""Reading `cluster.toml`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vlacut.errors import InputError


def read_table(path: Path) -> dict[str, Any]:
    """What stands in a TOML file. Raises InputError if it cannot be read."""
    import tomllib  # Python 3.10 lacks it; a robot, which may have that, reads no cluster

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: is no TOML: {error}") from error
