"""Executors by name."""

from __future__ import annotations

from collections.abc import Mapping

from vlacut.control.executors import ASYNC, SYNC, Async, Executor, Sync
from vlacut.control.ways.chunk import ChunkReader
from vlacut.errors import InputError, suggestion
from vlacut.tensor import TensorSpec


def make_executor(name: str, reader: ChunkReader, inputs: Mapping[str, TensorSpec]) -> Executor:
    """The executor of a name, for a policy with these inputs; InputError if there is none."""
    kinds = {SYNC: Sync, ASYNC: Async}
    if name not in kinds:
        raise InputError(f"no executor is called {name!r}; {suggestion(name, kinds)}")
    return kinds[name]()
