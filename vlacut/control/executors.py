"""Executors: when the loop asks for the next chunk, and what the policy is told of the current one.

sync    the next inference starts when the chunk is over; the robot holds while it thinks
async   it starts when the rest of the chunk is shorter than what the inference will take
rtc     as async, and the policy continues the chunk in force (real-time chunking): see
        `vlacut.control.rtc`
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

from vlacut.control.ways.chunk import ChunkReader
from vlacut.control.ways.playing import ALIGNED, NAIVE

SYNC, ASYNC, RTC = EXECUTORS = ("sync", "async", "rtc")


class InForce(NamedTuple):
    """The commands that will be executed, from the one of now on.

    Attributes:
        commands: [n, width]; none before the first chunk.
        delay: how many of them will have been executed when the chunk that is asked for arrives.
    """

    commands: np.ndarray
    delay: int


class Executor(Protocol):
    """When the loop runs out, and what the policy is told.

    Attributes:
        name: the executor's name.
        playing: how chunks are played unless something else is asked for.
        counts: whether the commands executed since its observation say where a chunk is entered;
            otherwise the time does.
        adds: names of the policy's inputs that the executor gives; a caller must not.
    """

    name: str
    playing: str
    counts: bool
    adds: tuple[str, ...]

    def runs_out(self, left_s: float, step_s: float, tick_s: float) -> bool:
        """Whether to start the next inference now, which will take `step_s`."""

    def observed(
        self, observation: Mapping[str, np.ndarray], reader: ChunkReader, in_force: InForce
    ) -> Mapping[str, np.ndarray]:
        """The observation that the policy is given."""


class Sync:
    """See the module's docstring."""

    name, playing, counts = SYNC, NAIVE, False
    adds: tuple[str, ...] = ()

    def runs_out(self, left_s: float, step_s: float, tick_s: float) -> bool:
        """When nothing is left."""
        return left_s <= 0

    def observed(
        self, observation: Mapping[str, np.ndarray], reader: ChunkReader, in_force: InForce
    ) -> Mapping[str, np.ndarray]:
        """It as it is."""
        return observation


class Async(Sync):
    """See the module's docstring."""

    name, playing = ASYNC, ALIGNED

    def runs_out(self, left_s: float, step_s: float, tick_s: float) -> bool:
        """One tick early, because a chunk is taken over at the tick after its arrival, and half a
        tick more, because ticks are not exactly on time.
        """
        return left_s < step_s + 1.5 * tick_s
