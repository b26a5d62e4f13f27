"""Playing: which command of which chunk is due, and what happens at the seams of chunks.

    naive       a new chunk from its first command on, one per period from its arrival
    aligned     the command of its own time: index (now - captured) / period, to the nearest
    blend       aligned, and linearly from the old chunk to the new one over some ticks
    ensemble    aligned, the mean of all chunks that have a command for now: weights exp(-m i), from
                i = 0 for the oldest (ACT's temporal ensembling, Zhao et al., arXiv 2304.13705,
                m = 0.01)

A chunk's index is fixed when the chunk is taken over. From then on it counts periods, rounded to
the nearest. So a tick that is off by less than half a period neither skips nor repeats a command,
and a later tick skips those that have passed. Beyond its horizon a chunk has no command. Switched
columns come from the newest chunk, even while others are blended.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vlacut.control.ways.chunk import Chunk, ChunkReader
from vlacut.errors import InputError, suggestion

NAIVE, ALIGNED, BLEND, ENSEMBLE = PLAYINGS = ("naive", "aligned", "blend", "ensemble")
BLEND_TICKS = 4
ACT_M = 0.01


@dataclass(frozen=True)
class Due:
    """The command of a tick.

    Attributes:
        values: [width].
        chunk: the newest one that it is from.
        index: its index in that chunk.
        captured_ns: capture of the oldest observation that has a share in it.
        of: numbers of all inferences that have a share in it.
    """

    values: np.ndarray
    chunk: Chunk
    index: int
    captured_ns: int
    of: tuple[int, ...]


class Playing(Protocol):
    """How chunks are played.

    Attributes:
        overlap_s: how long a chunk should still have commands when the next one comes.
        aligned: whether a chunk is entered at the command of its own time, else at its first.
    """

    overlap_s: float
    aligned: bool

    @property
    def newest(self) -> Chunk | None:
        """The chunk that was taken over last; None before the first."""

    def adopt(self, chunk: Chunk, now_ns: int, executed: int | None = None) -> bool:
        """Take a chunk over; whether it has a command for now. If not, nothing changes.

        Args:
            chunk: newer than all before it.
            now_ns: the time.
            executed: commands since its observation. If given, this is the chunk's index; otherwise
                the time says it.
        """

    def due(self, now_ns: int) -> Due | None:
        """The command that is due; None if every chunk is over."""

    def left_s(self, now_ns: int) -> float:
        """Seconds for which the newest chunk has commands from now on; 0 where it is over."""

    def rest(self, now_ns: int) -> np.ndarray:
        """Commands of the newest chunk from the due one on, [n, width]; its horizon is no end."""

    def reset(self) -> None:
        """Forget all chunks."""


@dataclass(frozen=True)
class _Placed:
    """A chunk, and where in it a time is."""

    chunk: Chunk
    since_ns: int
    first: int

    def index(self, now_ns: int, period_ns: int) -> int:
        return self.first + _nearest(now_ns - self.since_ns, period_ns)


def own_command(chunk: Chunk, now_ns: int, period_ns: int) -> np.ndarray | None:
    """The command that a chunk has for a time, [width], its horizon being no end; None if none."""
    index = max(0, _nearest(now_ns - chunk.captured_ns, period_ns))
    return chunk.commands[index] if index < len(chunk.commands) else None


def _nearest(spent_ns: int, period_ns: int) -> int:
    return (2 * spent_ns + period_ns) // (2 * period_ns)


class _Base:
    """What the ways to play share: the newest chunk, and its place."""

    aligned = True

    def __init__(self, reader: ChunkReader) -> None:
        self.overlap_s = 0.0
        self._period_ns = max(1, round(reader.spec.period_s * 1e9))
        self._horizon = reader.spec.horizon
        self._blended = reader.blended
        self._placed: _Placed | None = None

    @property
    def newest(self) -> Chunk | None:
        """See `Playing`."""
        return self._placed.chunk if self._placed else None

    def adopt(self, chunk: Chunk, now_ns: int, executed: int | None = None) -> bool:
        """See `Playing`."""
        if executed is not None:
            first = executed
        elif self.aligned:
            first = max(0, _nearest(now_ns - chunk.captured_ns, self._period_ns))
        else:
            first = 0
        if first >= self._horizon:
            return False
        self._replace(_Placed(chunk, now_ns, first))
        return True

    def _replace(self, placed: _Placed) -> None:
        self._placed = placed

    def _index(self, placed: _Placed | None, now_ns: int) -> int | None:
        """The index due in a chunk; None where it is over."""
        if placed is None:
            return None
        index = placed.index(now_ns, self._period_ns)
        return index if index < self._horizon else None

    def due(self, now_ns: int) -> Due | None:
        """See `Playing`."""
        index = self._index(self._placed, now_ns)
        if index is None or self._placed is None:
            return None
        chunk = self._placed.chunk
        return Due(chunk.commands[index], chunk, index, chunk.captured_ns, (chunk.number,))

    def left_s(self, now_ns: int) -> float:
        """See `Playing`."""
        if self._index(self._placed, now_ns) is None or self._placed is None:
            return 0.0
        whole = (self._horizon - self._placed.first) * self._period_ns
        return max(0, self._placed.since_ns + whole - now_ns) * 1e-9

    def rest(self, now_ns: int) -> np.ndarray:
        """See `Playing`."""
        if self._placed is None:
            return np.zeros((0, self._blended.size))
        return self._placed.chunk.commands[self._placed.index(now_ns, self._period_ns) :]

    def reset(self) -> None:
        """See `Playing`."""
        self._placed = None


class Naive(_Base):
    """See the module's docstring."""

    aligned = False


class Aligned(_Base):
    """See the module's docstring."""


class Blend(_Base):
    """See the module's docstring; `ticks` is how many commands are part old, part new."""

    def __init__(self, reader: ChunkReader, ticks: int = BLEND_TICKS) -> None:
        super().__init__(reader)
        self._ticks = ticks
        self.overlap_s = ticks * reader.spec.period_s
        self._old: _Placed | None = None

    def _replace(self, placed: _Placed) -> None:
        self._old, self._placed = self._placed, placed

    def due(self, now_ns: int) -> Due | None:
        """See `Playing`."""
        due, old = super().due(now_ns), self._index(self._old, now_ns)
        if due is None or old is None or self._old is None or self._placed is None:
            return due
        since = _nearest(now_ns - self._placed.since_ns, self._period_ns)
        if since >= self._ticks:
            self._old = None
            return due
        share = (since + 1) / (self._ticks + 1)
        before = self._old.chunk
        mixed = share * due.values + (1 - share) * before.commands[old]
        values = np.where(self._blended, mixed, due.values)
        oldest = min(due.captured_ns, before.captured_ns)
        return Due(values, due.chunk, due.index, oldest, (before.number, *due.of))

    def reset(self) -> None:
        """See `Playing`."""
        super().reset()
        self._old = None


class Ensemble(_Base):
    """See the module's docstring; `m` is how much less a newer chunk weighs than an older one."""

    def __init__(self, reader: ChunkReader, m: float = ACT_M) -> None:
        super().__init__(reader)
        self._m = m
        self.overlap_s = reader.spec.horizon * reader.spec.period_s / 2
        self._all: list[_Placed] = []

    def _replace(self, placed: _Placed) -> None:
        self._placed = placed
        self._all.append(placed)

    def due(self, now_ns: int) -> Due | None:
        """See `Playing`."""
        due = super().due(now_ns)
        self._all = [one for one in self._all if self._index(one, now_ns) is not None]
        if due is None or len(self._all) < 2:
            return due
        commands = [one.chunk.commands[one.index(now_ns, self._period_ns)] for one in self._all]
        weights = np.array([math.exp(-self._m * place) for place in range(len(commands))])
        mean = weights @ np.stack(commands) / weights.sum()
        values = np.where(self._blended, mean, due.values)
        oldest = min(one.chunk.captured_ns for one in self._all)
        return Due(
            values, due.chunk, due.index, oldest, tuple(one.chunk.number for one in self._all)
        )

    def reset(self) -> None:
        """See `Playing`."""
        super().reset()
        self._all = []


def make_playing(name: str, reader: ChunkReader) -> Playing:
    """The way to play of a name; InputError if there is none."""
    kinds: dict[str, Callable[[ChunkReader], Playing]] = {
        NAIVE: Naive,
        ALIGNED: Aligned,
        BLEND: Blend,
        ENSEMBLE: Ensemble,
    }
    if name not in kinds:
        raise InputError(f"no way to play chunks is called {name!r}; {suggestion(name, kinds)}")
    return kinds[name](reader)
