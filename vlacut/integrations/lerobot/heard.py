"""What the server has heard of its client: its instructions, and the newest observation."""

from __future__ import annotations

import threading

from vlacut.integrations.lerobot.observing import Instructions, Observed


class Heard:
    """For the threads of a server: one brings observations, another waits for them."""

    def __init__(self) -> None:
        self._instructions: Instructions | None = None
        self._newest: Observed | None = None
        self._changed, self._ended = threading.Condition(), False

    def forget(self) -> None:
        """A client begins: nothing is left of the one before."""
        with self._changed:
            self._newest = self._instructions = None

    def instruct(self, said: Instructions) -> None:
        """Take a client's instructions."""
        with self._changed:
            self._instructions = said

    def observe(self, observed: Observed) -> None:
        """Take an observation, unless there is one that was made later."""
        with self._changed:
            # One that came late is older than what there is; a new episode counts from 0.
            newer = self._newest is None or observed.timestamp >= self._newest.timestamp
            self._newest = observed if newer else self._newest
            self._changed.notify_all()

    def take(self, patience_s: float) -> tuple[Observed | None, Instructions | None]:
        """The newest observation, which is nobody else's then, and the instructions.

        Args:
            patience_s: to wait for an observation; there is none where none came, or at the end.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._ended, patience_s)
            observed, self._newest = self._newest, None
            return (None if self._ended else observed), self._instructions

    def end(self) -> None:
        """Nobody waits any more."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
