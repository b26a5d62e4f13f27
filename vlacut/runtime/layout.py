"""Layout: what every frame of a plan holds, so that nothing has to be believed of a peer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vlacut.errors import WireError
from vlacut.plan import Plan, Transfer
from vlacut.pricing import Side
from vlacut.runtime.route import Due, routes_of
from vlacut.runtime.wire import FIXED_TIMES, PROBE_BYTES, flat_bytes


@dataclass(frozen=True)
class Room:
    """Where a frame goes: the times that the cloud sends along, and the tensors."""

    times: np.ndarray
    tensors: tuple[np.ndarray, ...]

    @cached_property
    def nbytes(self) -> int:
        """Of the payload."""
        return self.times.nbytes + sum(tensor.nbytes for tensor in self.tensors)

    @cached_property
    def views(self) -> tuple[memoryview, ...]:
        """The bytes of the payload, in order."""
        arrays = (self.times, *self.tensors)
        return tuple(flat_bytes(array).data for array in arrays if array.nbytes)


class Layout:
    """The frames of a plan, as `receiver` receives them, and room for one step of each variant.

    Room is made when a transfer is first received, and used again in every later step: what a step
    received is overwritten by the next one.
    """

    def __init__(self, plan: Plan, receiver: Side) -> None:
        self._plan = plan
        self._receiver = receiver
        self._due: dict[Due, tuple[int, Transfer]] = {}
        for route in routes_of(plan, receiver):
            self._due |= zip(route.due, enumerate(route.transfers), strict=True)
        self._rooms: dict[Due, tuple[int, Room]] = {}

    @property
    def most_frames(self) -> int:
        """Most frames that a step of any variant receives."""
        return max((rank + 1 for rank, _ in self._due.values()), default=0)

    @property
    def nbytes(self) -> int:
        """Bytes of tensors that all its room comes to."""
        keys = (key for _, transfer in self._due.values() for key in transfer.tensors)
        return sum(self._plan.spec[key].nbytes for key in keys)

    def room(self, variant: int, position: int, trip: int) -> tuple[int, Room]:
        """The rank of a transfer among those of a step, and room for it.

        Raises WireError if the receiver expects no such transfer.
        """
        due = Due(variant, position, trip)
        if due not in self._rooms:
            if due not in self._due:
                raise WireError(
                    f"the peer sent transfer {position}, trip {trip}, of variant {variant}: "
                    f"there is none"
                )
            rank, transfer = self._due[due]
            self._rooms[due] = rank, self._make_room(variant, transfer)
        return self._rooms[due]

    @cached_property
    def probe_room(self) -> Room:
        """Room for a probe, or for the answer to one."""
        if self._receiver is Side.EDGE:
            return Room(np.empty(FIXED_TIMES, ">u8"), ())
        return Room(np.empty(0, ">u8"), (np.empty(PROBE_BYTES, np.uint8),))

    def _make_room(self, variant: int, transfer: Transfer) -> Room:
        specs = [self._plan.spec[key] for key in transfer.tensors]
        tensors = tuple(np.empty(spec.numpy_shape, spec.numpy_dtype) for spec in specs)
        count = FIXED_TIMES + 2 * len(self._plan.cloud_parts[variant])
        return Room(np.empty(count if self._receiver is Side.EDGE else 0, ">u8"), tensors)
