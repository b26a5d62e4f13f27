"""How much is allocated while something runs."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager


class Allocated:
    """The most bytes held at a time, of several runs of the same the least.

    What is traced are all threads of the process: one of another test or library may allocate in
    one run. What the code under test allocates, it does in every run.
    """

    def __init__(self) -> None:
        self._peaks = list[int]()

    @property
    def most(self) -> int:
        """Of the run in which the others disturbed least."""
        return min(self._peaks)

    @contextmanager
    def measured(self) -> Iterator[None]:
        """While entered, a run is measured."""
        tracemalloc.start()
        try:
            yield
            self._peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
