"""What a robot is told while no chunk has a command for now.

    hold    the last command again; for increments, zero
    stop    the last movement again, halved at every tick: a damped stop

Switched columns keep their values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlacut.control.ways.chunk import ChunkReader, Kind
from vlacut.errors import InputError, suggestion

HOLD, STOP = RULES = ("hold", "stop")
_DAMPING = 0.5


class Starving:
    """Makes up commands by a rule; InputError for an unknown rule."""

    def __init__(self, rule: str, reader: ChunkReader) -> None:
        if rule not in RULES:
            raise InputError(f"no rule for starving is called {rule!r}; {suggestion(rule, RULES)}")
        self._damping = _DAMPING if rule == STOP else 0.0
        self._delta = reader.spec.kind is Kind.DELTA
        self._blended = reader.blended

    def command(self, executed: Sequence[np.ndarray]) -> np.ndarray:
        """The next command, [width], after the latest ones; the last of them may be made up too."""
        last = executed[-1]
        if self._delta:
            moved = self._damping * last
        else:
            before = executed[-2] if len(executed) > 1 else last
            moved = last + self._damping * (last - before)
        return np.where(self._blended, moved, last)
