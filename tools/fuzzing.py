"""What the fuzzers share: inputs until so much processor time is spent, by atheris."""

from __future__ import annotations

import os
import sys
import time
import tracemalloc
from collections.abc import Callable

import atheris

SECONDS = 600.0


class Budget:
    """Stops the process after so much processor time, as a success."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._inputs = 0

    def spend(self) -> None:
        """Count an input."""
        self._inputs += 1
        if self._inputs % 256 == 0 and time.process_time() > self._seconds:
            print(
                f"{self._inputs} inputs in {time.process_time():.0f} s of processor time",
                flush=True,
            )
            os._exit(0)  # libFuzzer has no other way to stop


def fuzz(one_input: Callable[[bytes], None], most_bytes: int) -> None:
    """Feed a function until the budget of the command line is spent.

    Args:
        one_input: raises for an input that breaks something.
        most_bytes: that one input may take.
    """
    words, seconds = sys.argv, SECONDS
    if "--cpu-seconds" in words:
        at = words.index("--cpu-seconds")
        seconds = float(words[at + 1])
        words = words[:at] + words[at + 2 :]
    budget = Budget(seconds)

    def test(data: bytes) -> None:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        one_input(data)
        taken = tracemalloc.get_traced_memory()[1] - before
        assert taken < most_bytes, f"{taken} bytes were allocated"
        budget.spend()

    tracemalloc.start()
    atheris.Setup([*words, "-rss_limit_mb=1024", "-timeout=20"], test)
    atheris.Fuzz()
