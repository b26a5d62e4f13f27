"""A package that is not installed, and the extra of vlacut's that brings it."""

from __future__ import annotations

import re
from collections import Counter
from importlib.metadata import PackageNotFoundError, requires

_FIRST = "compile"  # of extras that bring the same: commands that lack something build, mostly
_REQUIREMENT = re.compile(r"^(?P<name>[\w.-]+).*\bextra == ['\"](?P<extra>[\w-]+)['\"]")


def how_to_install(module: str) -> str:
    """The command that installs what a module is of, e.g. `pip install 'vlacut[compile]'`.

    Args:
        module: as an ImportError names it: `onnx_ir.passes`.
    """
    wanted = _plain(module.partition(".")[0])
    every = _requirements()
    extras = {extra for name, extra in every if _plain(name) == wanted}
    if not extras:
        return f"pip install {wanted}"
    sizes = Counter(extra for _, extra in every if extra in extras)
    fewest = min(sizes, key=sizes.__getitem__)
    return f"pip install 'vlacut[{_FIRST if _FIRST in extras else fewest}]'"


def _requirements() -> list[tuple[str, str]]:
    """Packages that extras of vlacut bring, and the extra."""
    try:
        lines = requires("vlacut") or []
    except PackageNotFoundError:  # run from a folder that was never installed
        return []
    found = map(_REQUIREMENT.match, lines)
    return [(one["name"], one["extra"]) for one in found if one is not None]


def _plain(name: str) -> str:
    """As package indices compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()
