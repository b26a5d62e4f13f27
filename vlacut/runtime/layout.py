"""Layout: what every frame of a plan holds, so that nothing has to be believed of a peer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlacut.errors import WireError
from vlacut.plan import Loop, Plan, Transfer, Variant, taken
from vlacut.pricing import Side

Empty = Callable[[tuple[int, ...], "np.dtype[Any]"], np.ndarray]

FIXED_TIMES = 3  # frames taken, when the last was complete, when this one was sent


@dataclass(frozen=True)
class Room:
    """Where a frame goes: the times that the cloud sends along, and the tensors."""

    times: np.ndarray
    tensors: tuple[np.ndarray, ...]

    @property
    def nbytes(self) -> int:
        """Of the payload."""
        return self.times.nbytes + sum(tensor.nbytes for tensor in self.tensors)


@dataclass(frozen=True)
class _Due:
    """A frame of a step: how many of its variant come before it, and what it holds."""

    rank: int
    transfer: Transfer


class Layout:
    """The frames of a plan, as `receiver` receives them, and room for one step of each variant.

    Room is made when a transfer is first received, and used again in every later step: what a step
    received is overwritten by the next one.

    Attributes:
        empty: makes room of a shape and an element type.
    """

    def __init__(self, plan: Plan, receiver: Side, empty: Empty = np.empty) -> None:
        self._plan = plan
        self.empty = empty
        self._receiver = receiver
        self._due: dict[tuple[int, int, int], _Due] = {}
        for index, variant in enumerate(plan.variants):
            due = (found for found in _transfers(variant) if found[2].source is not receiver)
            for rank, (position, trip, transfer) in enumerate(due):
                self._due[index, position, trip] = _Due(rank, transfer)
        self._rooms: dict[tuple[int, int, int], Room] = {}

    @property
    def most_frames(self) -> int:
        """Most frames that a step of any variant receives."""
        return max((due.rank + 1 for due in self._due.values()), default=0)

    @property
    def nbytes(self) -> int:
        """Bytes of tensors that all its room comes to."""
        keys = (key for due in self._due.values() for key in due.transfer.tensors)
        return sum(self._plan.spec[key].nbytes for key in keys)

    def room(self, variant: int, position: int, trip: int) -> tuple[int, Room]:
        """The rank of a transfer among those of a step, and room for it.

        Raises WireError if the receiver expects no such transfer.
        """
        key = (variant, position, trip)
        if key not in self._due:
            raise WireError(
                f"the peer sent transfer {position}, trip {trip}, of variant {variant}: "
                f"there is none"
            )
        due = self._due[key]
        if key not in self._rooms:
            self._rooms[key] = self._make_room(variant, due.transfer)
        return due.rank, self._rooms[key]

    def _make_room(self, variant: int, transfer: Transfer) -> Room:
        specs = [self._plan.spec[key] for key in transfer.tensors]
        tensors = tuple(self.empty(spec.numpy_shape, spec.numpy_dtype) for spec in specs)
        count = FIXED_TIMES + 2 * len(self._plan.cloud_parts[variant])
        return Room(np.empty(count if self._receiver is Side.EDGE else 0, ">u8"), tensors)


def _transfers(variant: Variant) -> Iterator[tuple[int, int, Transfer]]:
    """Position, trip and transfer of everything that crosses in a step, in order."""
    position = 0
    for item in variant.schedule:
        body, trips = (item.body, item.trips) if isinstance(item, Loop) else ((item,), 1)
        for trip in range(trips):
            for offset, inner in enumerate(body):
                if isinstance(inner, Transfer) and (
                    not isinstance(item, Loop) or taken(inner.trips, trip, trips)
                ):
                    yield position + offset, trip, inner
        position += len(body)
