"""What a chunk announces: a gripper that switches, an arm that slows or turns."""

from __future__ import annotations

import numpy as np

from vlacut.control.situation import Ahead
from vlacut.control.ways.chunk import ChunkReader, Kind

HORIZON_S = 0.5
_SWITCH_SHARE = 0.25  # of the largest magnitude in a switched column, to count as a change


def announced(commands: np.ndarray, reader: ChunkReader) -> Ahead:
    """What the commands [n, width], from the one that is due on, announce for half a second.

    A movement is the norm of the blended columns' change from one command to the next, or of the
    command itself if it is an increment.
    """
    window = commands[: 1 + max(2, round(HORIZON_S / reader.spec.period_s))]
    if len(window) < 3:
        return Ahead()
    blended = reader.blended
    switches = 0.0
    if not blended.all():
        columns = window[:, ~blended]
        large = np.maximum(_SWITCH_SHARE * np.abs(columns).max(axis=0), 1e-9)
        switches = float((np.ptp(columns, axis=0) > large).any())
    delta = reader.spec.kind is Kind.DELTA
    moves = window[:, blended] if delta else np.diff(window[:, blended], axis=0)
    speeds = np.sqrt((moves * moves).sum(axis=1))
    most = float(speeds.max(initial=0.0))
    if most <= 0:
        return Ahead(switches)
    slows = max(0.0, 1 - float(speeds[-1]) / float(speeds[0])) if speeds[0] > 0 else 0.0
    bends = np.diff(moves, axis=0)
    turns = float(np.sqrt((bends * bends).sum(axis=1)).max(initial=0.0)) / most
    return Ahead(switches, slows, turns)
