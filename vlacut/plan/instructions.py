"""The instructions of a schedule, and the one walk over them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Union

from vlacut.codec import Codec
from vlacut.side import Side

MOST_TRIPS = 100_000  # the runtime lays every trip out; a control step of more is a mistake


class Trips(str, Enum):
    """In which trips of its loop an instruction is carried out; outside a loop, always."""

    ALL = "all"
    BEFORE_LAST = "before-last"
    LAST = "last"


@dataclass(frozen=True)
class Run:
    """Run a part on its side."""

    part: str


@dataclass(frozen=True)
class Transfer:
    """Send tensors, together and in this order, from one side to the other.

    Attributes:
        tensors: keys.
        source: the side that sends.
        trips: in which.
        codecs: of the tensors, one each; empty if all go as they are.
    """

    tensors: tuple[str, ...]
    source: Side
    trips: Trips = Trips.ALL
    codecs: tuple[Codec, ...] = ()

    @property
    def coded(self) -> tuple[tuple[str, Codec], ...]:
        """Every tensor with its codec."""
        codecs = self.codecs or (Codec.NONE,) * len(self.tensors)
        return tuple(zip(self.tensors, codecs, strict=True))


@dataclass(frozen=True)
class Move:
    """Name the tensor `source` also `target`, on every given side; nothing is copied."""

    source: str
    target: str
    sides: tuple[Side, ...]
    trips: Trips = Trips.ALL


@dataclass(frozen=True)
class Loop:
    """Repeat the body; loops do not nest."""

    trips: int
    body: tuple[Union[Run, Transfer, Move], ...]


Instruction = Union[Run, Transfer, Move, Loop]


def runs(schedule: Iterable[Instruction]) -> dict[str, int]:
    """How often a control step runs each part, in the order of their first run."""
    counted: dict[str, int] = {}
    for step in schedule:
        inner, times = (step.body, step.trips) if isinstance(step, Loop) else ((step,), 1)
        for item in inner:
            if isinstance(item, Run):
                counted[item.part] = counted.get(item.part, 0) + times
    return counted


def flatten(schedule: Iterable[Instruction]) -> list[Run | Transfer | Move]:
    """The instructions of a schedule, each once, loops opened."""
    flat: list[Run | Transfer | Move] = []
    for step in schedule:
        flat.extend(step.body if isinstance(step, Loop) else (step,))
    return flat


def taken(trips: Trips, trip: int, total: int) -> bool:
    """Whether an instruction is carried out in this trip of a loop of `total`."""
    last = trip == total - 1
    return trips is Trips.ALL or (trips is Trips.LAST) is last
