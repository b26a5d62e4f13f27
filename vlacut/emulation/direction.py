"""LinkDirection: one direction of an emulated link, shared by all connections over it."""

from __future__ import annotations

import random
import threading

from vlacut.emulation.shape import DirectionShape
from vlacut.hardware.service import Service

_SLICE_S = 0.5e-3  # what leaves in less time leaves together: a thread's sleep is no finer


class LinkDirection:
    """Says when bytes arrive; time is the caller's, in seconds.

    Args:
        shape: of the direction.
        segment_bytes: bytes that are lost together.
        seed: of jitter and loss.
        begins: when the trace starts; until then nothing but the delay holds bytes up. None: it
            is not known yet, see `begin`.
    """

    def __init__(
        self, shape: DirectionShape, segment_bytes: int, seed: int, begins: float | None
    ) -> None:
        self._shape = shape
        self._segment_bytes = segment_bytes
        self._service = Service(shape.trace)
        self._numbers = random.Random(seed)
        self._lock = threading.Lock()
        self._begins = begins
        self._free = 0.0  # when the last byte that was taken has left
        self._due = 0.0  # when it arrives
        self._jitter = 0.0

    def begin(self, now: float) -> None:
        """Start the trace, from its first second, now: a time in seconds."""
        with self._lock:
            self._begins = now

    def together(self, nbytes: int, now: float) -> int:
        """How many of so many bytes that are there now, a time in seconds, leave together: those of
        half a millisecond at the rate of the time, a segment at least.
        """
        with self._lock:
            start = max(now, self._free)
            if self._begins is None or start < self._begins:
                return nbytes
            since = start - self._begins
            left = self._service.carried(since + _SLICE_S) - self._service.carried(since)
            return min(nbytes, max(self._segment_bytes, round(left)))

    def take(self, nbytes: int, now: float) -> float:
        """When so many bytes that are there now arrive, after all that were taken before; both
        times in seconds.
        """
        with self._lock:
            if now >= self._free:
                self._jitter = self._numbers.uniform(0.0, self._shape.jitter_s)
            self._free = self._left(nbytes, max(now, self._free))
            due = self._free + self._shape.delay_s + self._jitter
            if self._lost(nbytes):
                due += self._shape.again_s
            self._due = max(self._due, due)
            return self._due

    def _left(self, nbytes: int, start: float) -> float:
        if self._begins is None or start < self._begins:
            return start
        return self._begins + self._service.finish(start - self._begins, nbytes)

    def _lost(self, nbytes: int) -> bool:
        kept = (1 - self._shape.loss) ** (nbytes / self._segment_bytes)
        return self._shape.loss > 0 and self._numbers.random() >= kept
