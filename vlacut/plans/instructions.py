"""The instructions of a schedule, and the one walk over them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Union

from vlacut.hardware import Side
from vlacut.tensor.codec import Codec

MOST_TRIPS = 100_000  # the runtime lays every trip out; a control step of more is a mistake


class Trips(str, Enum):
    """In which trips of its loop an instruction is carried out.

    An instruction outside a loop has one trip, the last one: `BEFORE_LAST` never happens there.
    """

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
        tensors: keys; empty if it only tells the cloud that a step has begun.
        source: the side that sends.
        trips: the trips in which it happens.
        codecs: one per tensor; empty if all go as they are.
        later: whether the tensors are state: nobody waits for them before the next control step.
    """

    tensors: tuple[str, ...]
    source: Side
    trips: Trips = Trips.ALL
    codecs: tuple[Codec, ...] = ()
    later: bool = False

    @property
    def coded(self) -> tuple[tuple[str, Codec], ...]:
        """Every tensor with its codec."""
        codecs = self.codecs or (Codec.NONE,) * len(self.tensors)
        return tuple(zip(self.tensors, codecs, strict=True))

    @property
    def varies(self) -> bool:
        """Whether its bytes depend on the numbers."""
        return any(codec.varies for codec in self.codecs)


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


class Step(NamedTuple):
    """An instruction carried out once.

    Attributes:
        position: its index in `flatten` of the schedule.
        trip: of the loop around it, from 0; 0 outside a loop.
        trips: of that loop; 1 outside a loop.
        instruction: what is done.
    """

    position: int
    trip: int
    trips: int
    instruction: Run | Transfer | Move


def steps(schedule: Iterable[Instruction], *, between: bool = True) -> Iterator[Step]:
    """Everything a control step does, in order: the meaning of a schedule.

    Args:
        schedule: of a variant.
        between: whether to walk the trips between the first and the last of a loop, too. They
            repeat the first one, so a check of the schedule can leave them out.
    """
    position = 0
    for loop in _loops(schedule):
        every = range(loop.trips)
        for trip in every if between else sorted({*every[:1], *every[-1:]}):
            for offset, instruction in enumerate(loop.body):
                if _happens(instruction, trip, loop.trips):
                    yield Step(position + offset, trip, loop.trips, instruction)
        position += len(loop.body)


def runs(schedule: Iterable[Instruction]) -> dict[str, int]:
    """How often a control step runs each part, in the order of their first run."""
    counted: dict[str, int] = {}
    for loop in _loops(schedule):
        for instruction in loop.body:
            if isinstance(instruction, Run):
                counted[instruction.part] = counted.get(instruction.part, 0) + loop.trips
    return counted


def flatten(schedule: Iterable[Instruction]) -> list[Run | Transfer | Move]:
    """The instructions of a schedule, each once, loops opened."""
    return [instruction for loop in _loops(schedule) for instruction in loop.body]


def _loops(schedule: Iterable[Instruction]) -> Iterator[Loop]:
    """The schedule as loops alone: an instruction outside a loop is a loop of one trip."""
    for item in schedule:
        yield item if isinstance(item, Loop) else Loop(1, (item,))


def _happens(instruction: Run | Transfer | Move, trip: int, trips: int) -> bool:
    if isinstance(instruction, Run) or instruction.trips is Trips.ALL:
        return True
    return (instruction.trips is Trips.LAST) is (trip == trips - 1)
