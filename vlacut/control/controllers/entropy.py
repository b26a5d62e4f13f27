"""The vision trigger that RAPID is compared with: a cheap inference tells how unsure it is.

The cheap variant runs. If its action is unsure, the strong variant is asked as well, as SAFE and
the entropy trigger of RAPID's table I do. It sees the pictures, and so also their noise.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from vlacut.control.situation import Decision, Keep, Request, Situation

_REMEMBERED = 64
_SHARE = 0.8


class Entropy:
    """See the module's docstring.

    Args:
        threshold: an action of at least this entropy, in nats, is unsure. None takes the value that
            one in five of the cheap variant's last actions exceeded.
        cheap, strong: the variants; None lets the session choose.
        period_s: seconds between cheap inferences; None for one when a chunk runs out.
    """

    def __init__(
        self,
        threshold: float | None = None,
        cheap: int | None = None,
        strong: int | None = None,
        period_s: float | None = None,
    ) -> None:
        self._threshold = threshold
        self._cheap, self._strong, self._period_s = cheap, strong, period_s
        self._told: deque[float] = deque(maxlen=_REMEMBERED)
        self._seen: int | None = None  # the chunk that was judged last
        self._asked_strong = False

    def decide(self, situation: Situation) -> Decision:
        """See `Controller`."""
        buffer, entropy = situation.buffer, situation.entropy
        if buffer.in_flight_s is not None:
            return Keep()
        if buffer.chunk != self._seen:
            self._seen, asked_strong = buffer.chunk, self._asked_strong
            self._asked_strong = False
            if entropy is not None and not asked_strong and self._unsure(entropy):
                self._asked_strong = True
                return Request(self._strong, preempt=True, why="entropy")
        due = self._period_s is not None and (
            buffer.since_request_s + situation.tick_s / 2 >= self._period_s
        )
        if due or buffer.runs_out:
            return Request(self._cheap, why="period" if due else "runs out")
        return Keep()

    def _unsure(self, entropy: float) -> bool:
        limit = self._threshold
        if limit is None:
            limit = float(np.quantile(self._told, _SHARE)) if self._told else entropy
        self._told.append(entropy)
        return not entropy <= limit  # one that is no number is not sure

    def reset(self) -> None:
        """See `Controller`."""
        self._seen, self._asked_strong = None, False
