"""Records a control loop: see `vlacut.control.recording.episodes` for what is kept."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vlacut.control.recording.episodes import Episodes, write_episodes
from vlacut.control.report import CommandReport, Route
from vlacut.control.signals.motion import Joints
from vlacut.control.ways.chunk import Chunk, ChunkReader

MOST_BYTES = 2 << 30

_log = logging.getLogger("vlacut.control")


class Recorder:
    """Keeps what happens until it is written.

    Args:
        path: of the file.
        routes: of the plan's variants.
        reader: of the chunk.
        period_s: of a tick.
        most_bytes: of observations; when there are more, no more is recorded, and that is logged.
    """

    def __init__(
        self,
        path: Path,
        routes: Sequence[Route],
        reader: ChunkReader,
        period_s: float,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._path, self._routes, self._reader = path, routes, reader
        self._period_s = period_s
        self._left = most_bytes
        self._ticks: list[tuple[CommandReport, int, dict[str, np.ndarray]]] = []
        self._chunks: list[Chunk] = []
        self._samples: list[tuple[int, list[np.ndarray | None]]] = []
        self._episode = [0]
        self._full = False

    def tick(
        self,
        report: CommandReport,
        captured_ns: int,
        observation: Mapping[str, np.ndarray],
        newest: Chunk | None,
    ) -> None:
        """A tick, and the chunk in force."""
        if self._full:
            return
        self._left -= sum(array.nbytes for array in observation.values())
        if self._left < 0:
            self._full = True
            _log.warning("%s: no more is recorded, it holds too much already", self._path)
            return
        copied = {name: np.array(array) for name, array in observation.items()}
        self._ticks.append((report, captured_ns, copied))
        if newest is not None and (not self._chunks or self._chunks[-1] is not newest):
            self._chunks.append(newest)

    def sense(self, q: Joints | None, qd: Joints | None, tau: Joints | None, at_ns: int) -> None:
        """A sample of the joints."""
        if not self._full:
            taken = [None if one is None else np.array(one, float) for one in (q, qd, tau)]
            self._samples.append((at_ns, taken))

    def reset(self) -> None:
        """Another episode begins."""
        if self._episode[-1] != len(self._ticks):
            self._episode.append(len(self._ticks))

    def write(self) -> None:
        """Write the file, if there was a tick. Raises OSError."""
        if self._ticks:
            write_episodes(self._path, self.episodes())

    def episodes(self) -> Episodes:
        """What there is so far; at least a tick."""
        reports = [report for report, _, _ in self._ticks]
        length, width = self._reader.length, self._reader.width
        nothing = np.full(width, np.nan)
        chunks = [one.commands for one in self._chunks]
        last = len(self._episode) - (self._episode[-1] == len(self._ticks))
        return Episodes(
            period_s=self._period_s,
            chunk_period_s=self._reader.spec.period_s,
            declared=str(self._reader.spec),
            variants=np.array([route.variant for route in self._routes]),
            routes=np.array([route.route for route in self._routes]),
            episode=np.array(self._episode[:last]),
            tick_ns=_row([one.at_ns for one in reports]),
            captured_ns=_row([captured for _, captured, _ in self._ticks]),
            command=np.array([nothing if (c := one.command) is None else c for one in reports]),
            command_captured_ns=_row([one.captured_ns for one in reports]),
            inference=_row([-1 if one.inference is None else one.inference for one in reports]),
            index=_row([one.index for one in reports]),
            starved=np.array([one.starved for one in reports]),
            chunk=np.array(chunks) if chunks else np.zeros((0, length, width)),
            chunk_number=_row([one.number for one in self._chunks]),
            chunk_tick=_row([one.asked_tick for one in self._chunks]),
            chunk_captured_ns=_row([one.captured_ns for one in self._chunks]),
            chunk_arrived_ns=_row([one.arrived_ns for one in self._chunks]),
            chunk_variant=_row([one.variant for one in self._chunks]),
            sense_ns=_row([at for at, _ in self._samples]),
            **{name: self._sensed(place) for place, name in enumerate(("q", "qd", "tau"))},
            observation={
                name: np.stack([observed[name] for _, _, observed in self._ticks])
                for name in self._ticks[0][2]
            },
        )

    def _sensed(self, place: int) -> np.ndarray:
        taken = [sample[place] for _, sample in self._samples]
        joints = max((one.size for one in taken if one is not None), default=0)
        made = np.full((len(taken), joints), np.nan)
        for row, one in zip(made, taken, strict=True):
            if one is not None:
                row[: one.size] = one.reshape(-1)
        return made


def _row(numbers: Sequence[int]) -> np.ndarray:
    return np.array(numbers, np.int64)
