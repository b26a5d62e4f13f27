"""Executors: when the loop runs out of commands, and what the policy is told of those in force.

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
        delay: how many of them will have been when the chunk that is asked for is there.
    """

    commands: np.ndarray
    delay: int


class Executor(Protocol):
    """When the loop runs out, and what the policy is told.

    Attributes:
        name: of it.
        playing: how chunks are played where nothing else is asked for.
        counts: whether a chunk is entered by commands executed since its observation, not by time.
        adds: names of the policy's inputs that it gives, and a caller must not.
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
        """What the policy is given of an observation."""


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
        """A tick early, since a chunk is taken over at the tick after its arrival, and another half
        since ticks are not on time.
        """
        return left_s < step_s + 1.5 * tick_s
