"""A machine with a GPU that is none: `libcuda.so.1` is the fake driver, `tensorrt` the fake module.

Importing this puts the driver in place; `sitecustomize` beside it does so in the processes that
this one starts, if this folder is on PYTHONPATH.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

from fake_cuda import FakeDriver

_real = ctypes.CDLL


@cache
def driver() -> FakeDriver:
    return FakeDriver()


class _Opened(_real):  # type: ignore[misc, valid-type]  # what others derive from stays a class
    def __new__(cls, name: Any, *arguments: Any, **options: Any) -> Any:
        return driver() if name == "libcuda.so.1" else super().__new__(cls)


def install() -> None:
    ctypes.CDLL = _Opened  # type: ignore[misc]


def remove() -> None:
    ctypes.CDLL = _real  # type: ignore[misc]
    driver.cache_clear()
