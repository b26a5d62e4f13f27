"""Episodes as the simulation plays them: every tick's own chunk, and what its joints said."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlacut.control.recording.episodes import Episodes
from vlacut.control.recording.replay import motions
from vlacut.control.recording.staleness import ranges
from vlacut.control.signals.motion import UNFITTED, MotionScale
from vlacut.control.situation import Motion
from vlacut.control.ways.chunk import ChunkReader, parse_chunk
from vlacut.errors import InputError
from vlacut.tensor import TensorSpec

_HELD = 6  # lengths of a chunk: for how long a last command is looked at while it is held


@dataclass(frozen=True, eq=False)
class Recorded:
    """What a simulation knows of episodes.

    Attributes:
        episodes: as they were recorded.
        reader: of chunks [T, W]; those of a file are absolute already.
        chunks: of every tick, [N, T, W].
        moved: what was sensed, by tick.
        scale: ranges of the columns, [W].
    """

    episodes: Episodes
    reader: ChunkReader
    chunks: np.ndarray
    moved: list[Motion]
    scale: np.ndarray

    def errors(self, first: int, end: int) -> np.ndarray:
        """Errors [n, D] in shares of ranges: of the command for tick n in the chunk of tick n - d.

        If that chunk has no command for tick n, its last command counts. NaN if there is no such
        chunk.
        """
        count, length = end - first, self.reader.spec.horizon
        lasts = self.reader.spec.period_s / self.episodes.period_s
        most = min(count, _HELD * max(1, round(length * lasts)))
        made = np.full((count, most), np.nan)
        chunks = self.chunks[first:end]
        for late in range(most):
            index = min(int(late / lasts + 0.5), length - 1)
            now = np.arange(late, count)
            apart = np.abs(chunks[now - late, index] - chunks[now, 0]) / self.scale
            made[now, late] = apart.mean(axis=1)
        return made


def make_recorded(episodes: Episodes, scale: MotionScale = UNFITTED) -> Recorded:
    """Episodes, ready to be played; InputError where a tick has no chunk of its own.

    Args:
        episodes: with the chunk of every tick.
        scale: of the joints' scores.
    """
    if not np.array_equal(episodes.chunk_tick, np.arange(episodes.ticks)):
        raise InputError(
            "not every tick of the episodes has a chunk of its own; make such a file with vlacut "
            "calibrate-actions --fresh FILE"
        )
    declared = parse_chunk(episodes.declared)
    spec = type(declared)(
        declared.output,
        axis=0,
        period_s=episodes.chunk_period_s,
        horizon=declared.horizon,
        switched=declared.switched,
    )
    output = TensorSpec(spec.output, "float64", episodes.chunk.shape[1:])
    reader = ChunkReader(spec, output, {}, episodes.period_s)
    played = episodes.chunk[:, : reader.spec.horizon]
    return Recorded(episodes, reader, episodes.chunk, motions(episodes, scale), ranges(played))
