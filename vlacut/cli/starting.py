"""How commands that build start: without what libraries import and a plan does not need."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader

# onnx_ir imports sympy for symbolic dimensions, of which programs here have none, scipy.optimize
# imports scipy.spatial for one of its methods, and scipy asks numpy for each of its names.
_LATER = frozenset(
    ["sympy", "onnx_ir._symbolic_shapes", "scipy.spatial"]
    + [f"numpy.{name}" for name in ("ctypeslib", "f2py", "polynomial", "testing")]
)
_OBJECTS = 200_000  # a program is millions of objects that stay


class _Later:
    """Finds modules that are loaded when something in them is first asked for."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: object = None
    ) -> ModuleSpec | None:
        """The spec of such a module; None for any other."""
        if name not in _LATER:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


def start_lightly() -> None:
    """Let this process load some modules late, and look for cycles of garbage seldom.

    For a process that makes one thing, and answers nobody meanwhile.
    """
    sys.meta_path.insert(0, _Later)
    gc.set_threshold(_OBJECTS, *gc.get_threshold()[1:])
