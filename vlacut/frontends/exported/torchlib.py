"""torch's table of what ONNX has for its operators, made once a process.

The exporter makes it anew for every graph, out of the source text of some 500 functions of
onnxscript: of 2.1 s of a processor for a linear layer and a norm, 0.6 are left once it is at hand
(torch 2.13).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_LOCK = threading.Lock()
_MADE: dict[tuple[Any, ...], Any] = {}


@contextmanager
def torchlib_once() -> Iterator[None]:
    """Exports inside take a copy of the table that the first of them made.

    The table is private to torch: where another version has it elsewhere, it is made anew as ever.
    """
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        made = ONNXRegistry.__dict__["from_torchlib"]
    except (ImportError, KeyError):
        yield
        return

    def once(*version: Any, **named: Any) -> Any:
        key = (*version, *sorted(named.items()))
        if key not in _MADE:
            _MADE[key] = made.__func__(ONNXRegistry, *version, **named)
        return _copied(_MADE[key])

    with _LOCK:
        ONNXRegistry.from_torchlib = staticmethod(once)  # type: ignore[method-assign]
        try:
            yield
        finally:
            ONNXRegistry.from_torchlib = made  # type: ignore[method-assign]


def _copied(table: Any) -> Any:
    """A table of its own: an export may enter functions of its caller's."""
    copied = type(table)()
    copied.__dict__.update(table.__dict__)
    copied.functions = {name: list(metas) for name, metas in table.functions.items()}
    return copied
