"""Executors by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vlacut.control.executors import ASYNC, RTC, SYNC, Async, Executor, Sync
from vlacut.control.rtc import RealTime
from vlacut.errors import InputError, suggestion
from vlacut.tensor import TensorSpec


def make_executor(name: str, inputs: Mapping[str, TensorSpec]) -> Executor:
    """The executor of a name, for a policy with these inputs; InputError if there is none."""
    kinds: dict[str, Callable[[], Executor]] = {
        SYNC: Sync,
        ASYNC: Async,
        RTC: lambda: RealTime(inputs),
    }
    if name not in kinds:
        raise InputError(f"no executor is called {name!r}; {suggestion(name, kinds)}")
    return kinds[name]()
