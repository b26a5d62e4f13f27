"""The situation that a controller is told at every tick, and its decision: keep, or a request.

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
        weight: the acceleration's weight in it, by speed; 0 to 1.
        speed: the newest norm of the joints' velocities.
        raw_acceleration, raw_torque: the largest, before they are compared with the window.
        samples: how many there were; without any, all else is 0.
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
        slows: the share by which its movements become smaller than now; 0 to 1.
        turns: largest change from one movement to the next, as a share of the largest movement.
    """

    switches: float = 0.0
    slows: float = 0.0
    turns: float = 0.0


class Buffered(NamedTuple):
    """The chunk in force, and what is asked for. Seconds.

    Attributes:
        left_s: how long it still has commands.
        age_s: age of the observation behind it; infinity before the first chunk.
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


class Coming(NamedTuple):
    """The commands of the chunk in force that are still to come.

    Attributes:
        commands: from the one that is due, [n, width].
        period_s: seconds between them.
        again: whether the next chunk is played from its first command on, however old it is: what
            is executed while it is made is executed again.
    """

    commands: np.ndarray = np.zeros((0, 0))
    period_s: float = 0.0
    again: bool = False


class Seam(NamedTuple):
    """The newest chunk against the one before, where both have a command for the same time.

    Attributes:
        chunk: number of the inference that made the newest.
        gap_s: seconds between the captures of their observations.
        difference: absolute difference, by column, of the commands that they have for the time at
            which it was taken over, whichever of them is played.
    """

    chunk: int
    gap_s: float
    difference: np.ndarray


class Situation(NamedTuple):
    """All that a controller decides on.

    Attributes:
        tick: its number, from 0.
        tick_s: seconds since the tick before, as the loop was called; its period at first.
        forecast: forecast of the network; None if nothing crosses one.
        times: predicted median seconds of an inference by each variant, from observation to chunk.
        motion, ahead, buffer: see their classes.
        entropy: entropy of the newest chunk, in nats; None if the policy tells none.
        executed: the latest commands, the newest last, each [width].
        seam: between the chunk in force and the one before; None if they did not meet.
        coming: see its class.
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
    coming: Coming = Coming()


class Keep(NamedTuple):
    """Play on.

    Attributes:
        why: for the report.
    """

    why: str = ""


class Request(NamedTuple):
    """Ask for an inference on the newest observation.

    Attributes:
        variant: index of the plan's variant; None lets the session's own selector choose.
        preempt: whether it replaces an inference in flight, whose chunk is then not used. Nothing
            is interrupted: the new one begins when the old one has ended. Without preempt, a
            request is dropped while an inference is in flight.
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
