"""Background load: the share of this machine's processors that everything else takes.

An engine of several threads runs at the pace of its slowest thread. So another process that has one
processor for a while delays it by more than that while. A measurement says how much there was.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

_STAT = Path("/proc/stat")
_IDLE = (3, 4)  # idle and waiting for a disk, of the numbers of proc(5)
_GUESTS = 8  # from here on, what the first two numbers have already

Watch = Callable[[], "float | None"]


def watch_background_load() -> Watch:
    """A function that gives the background load since this call, as a share of all processors.

    It gives None on a system that does not tell. Time that a hypervisor took counts, too.
    """
    start, busy, own = time.perf_counter(), _busy_s(), time.process_time()

    def share() -> float | None:
        now = _busy_s()
        if busy is None or now is None:
            return None
        passed = (time.perf_counter() - start) * (os.cpu_count() or 1)
        taken = now - busy - (time.process_time() - own)
        return min(1.0, max(0.0, taken / passed))

    return share


def _busy_s() -> float | None:
    """Seconds that all processors have worked since the system started."""
    if not _STAT.is_file():
        return None
    numbers = _STAT.read_text(encoding="ascii").partition("\n")[0].split()[1 : 1 + _GUESTS]
    ticks = sum(int(number) for at, number in enumerate(numbers) if at not in _IDLE)
    return ticks / os.sysconf("SC_CLK_TCK")
