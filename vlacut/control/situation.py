"""What a controller is told at every tick, and what it says: keep playing, or ask for an inference.

A controller reads no clock, so that simulations drive the same code in virtual time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol, Union

import numpy as np

from vlacut.runtime.network.selectors import Forecast


class Motion(NamedTuple):
    """What the joints' sensors told since the tick before, see `vlacut.control.signals.motion`.

    Attributes:
        importance: RAPID's action importance score S, the largest.
        acceleration, torque: its parts z_a and z_t, the largest, in standard deviations.
        weight: of the acceleration in it, by speed; 0 to 1.
        speed: norm of the joints' velocities, the newest.
        raw_acceleration, raw_torque: before they are compared with the window, the largest.
        samples: how many there were; where there were none all else is 0.
    """

    importance: float = 0.0
    acceleration: float = 0.0
    torque: float = 0.0
    weight: float = 0.0
    speed: float = 0.0
    raw_acceleration: float = 0.0
    raw_torque: float = 0.0
    samples: int = 0


STILL = Motion()


class Ahead(NamedTuple):
    """What the chunk in force announces for the next half second.

    Attributes:
        switches: 1 where a switched column changes, else 0.
        slows: by which share its commands come to move less than they do now; 0 to 1.
        turns: largest change from one movement to the next, as a share of the largest movement.
    """

    switches: float = 0.0
    slows: float = 0.0
    turns: float = 0.0


class Buffered(NamedTuple):
    """The chunk in force, and what is asked for. Seconds.

    Attributes:
        left_s: for which it has commands.
        age_s: of the observation behind it; infinity before the first chunk.
        in_flight_s: since the inference in flight was asked for; None if there is none.
        since_request_s: since one was last asked for; infinity before the first.
        runs_out: whether the executor wants the next one now.
        chunk: number of the inference that made it; None before the first.
    """

    left_s: float = 0.0
    age_s: float = math.inf
    in_flight_s: float | None = None
    since_request_s: float = math.inf
    runs_out: bool = True
    chunk: int | None = None


class Seam(NamedTuple):
    """The newest chunk against the one before, where both have a command for the same time.

    Attributes:
        chunk: number of the inference that made the newest.
        gap_s: between the captures of their observations.
        difference: of the command at which it was taken over, by column, absolute.
    """

    chunk: int
    gap_s: float
    difference: np.ndarray


class Situation(NamedTuple):
    """All that a controller decides on.

    Attributes:
        tick: its number, from 0.
        tick_s: seconds since the tick before, as the loop was called; its period at first.
        forecast: of the network; None where nothing crosses one.
        times: predicted seconds of an inference by each variant, from observation to chunk: in the
            middle, not at most.
        motion, ahead, buffer: see there.
        entropy: of the newest chunk, in nats; None where the policy tells none.
        executed: commands of late, the newest last, each [width].
        seam: of the chunk in force with the one before; None where they did not meet.
    """

    tick: int
    tick_s: float
    forecast: Forecast | None
    times: Sequence[float]
    motion: Motion
    ahead: Ahead
    buffer: Buffered
    entropy: float | None
    executed: Sequence[np.ndarray]
    seam: Seam | None = None


class Keep(NamedTuple):
    """Play on.

    Attributes:
        why: for the report.
    """

    why: str = ""


class Request(NamedTuple):
    """Ask for an inference on the newest observation.

    Attributes:
        variant: index of the plan's; the session's own selector chooses if None.
        preempt: whether it takes the place of one in flight, whose chunk is then not used. Nothing
            is interrupted: it begins when that one has ended. Without, it waits for none: there is
            no request while one is in flight.
        why: for the report.
    """

    variant: int | None = None
    preempt: bool = False
    why: str = ""


Decision = Union[Keep, Request]


class Controller(Protocol):
    """Decides, tick after tick."""

    def decide(self, situation: Situation) -> Decision:
        """What to do in this tick."""

    def reset(self) -> None:
        """Another episode begins."""
