"""Layout: what every frame of a plan holds, so that nothing has to be believed of a peer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vlacut.errors import WireError
from vlacut.plan.instructions import Transfer
from vlacut.plan.plan import Plan
from vlacut.runtime.wire.codecs import Coder
from vlacut.runtime.wire.protocol import FIXED_TIMES, PROBE_BYTES, flat_bytes
from vlacut.runtime.wire.route import Send, routes_of
from vlacut.side import Side
from vlacut.tensor.codec import Codec

Empty = Callable[[tuple[int, ...], "np.dtype[Any]"], np.ndarray]
_Place = tuple[int, int, int]


@dataclass(frozen=True)
class Room:
    """Where a frame goes: the times that the cloud sends along, and the tensors.

    Attributes:
        times: of the cloud.
        tensors: what is on the wire, in coded form where there is a codec.
        decoders: what decodes each tensor, and into what; None for those that go as they are.
    """

    times: np.ndarray
    tensors: tuple[np.ndarray, ...]
    decoders: tuple[tuple[Coder, np.ndarray] | None, ...] = ()

    @cached_property
    def nbytes(self) -> int:
        """Of the payload."""
        return self.times.nbytes + sum(tensor.nbytes for tensor in self.tensors)

    @cached_property
    def views(self) -> tuple[memoryview, ...]:
        """The bytes of the payload, in order."""
        arrays = (self.times, *self.tensors)
        return tuple(flat_bytes(array).data for array in arrays if array.nbytes)

    @cached_property
    def coded(self) -> bool:
        """Whether any tensor is in coded form."""
        return any(self.decoders)

    def decoded(self) -> tuple[np.ndarray, ...]:
        """The tensors, those in coded form decoded now."""
        if not self.coded:
            return self.tensors
        return tuple(map(_decoded, self.tensors, self.decoders))


def _decoded(tensor: np.ndarray, decoder: tuple[Coder, np.ndarray] | None) -> np.ndarray:
    if decoder is None:
        return tensor
    coder, into = decoder
    coder.decode(tensor, into)
    return into


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
        self._due: dict[_Place, tuple[int, Transfer]] = {}
        self._encodes: list[tuple[str, Codec]] = []  # at each place of its own, see `encoded`
        for route in routes_of(plan, receiver):
            self._due |= zip(route.due, enumerate(route.transfers), strict=True)
            sends = (stop for stop in route.stops if isinstance(stop, Send))
            self._encodes += [item for stop in sends if stop.encodes for item in stop.coded]
        self._rooms: dict[_Place, tuple[int, Room]] = {}
        self._coders: dict[tuple[str, Codec], Coder] = {}
        self._written: dict[tuple[_Place, str], np.ndarray] = {}

    @property
    def most_frames(self) -> int:
        """Most frames that a step of any variant receives."""
        return max((rank + 1 for rank, _ in self._due.values()), default=0)

    @property
    def nbytes(self) -> int:
        """Bytes of tensors that all its room comes to, what is decoded and to send included."""
        received = [item for _, transfer in self._due.values() for item in transfer.coded]
        coded = [*received, *self._encodes]
        nbytes = sum(self._plan.spec[key].nbytes for key, _ in received)
        return nbytes + sum(
            self._coder(*item).nbytes for item in coded if item[1] is not Codec.NONE
        )

    def encoded(self, place: _Place, key: str, codec: Codec, array: np.ndarray) -> np.ndarray:
        """What of a tensor goes on the wire; overwritten at that place of the next step.

        Args:
            place: variant, position and trip of the transfer that sends it.
            key: of the tensor.
            codec: how it is written.
            array: the tensor.
        """
        if codec is Codec.NONE:
            return array
        coder = self._coder(key, codec)
        if (place, key) not in self._written:
            self._written[place, key] = np.empty(coder.nbytes, np.uint8)
        made = self._written[place, key]
        coder.encode(np.require(array, requirements="C"), made)
        return made

    def leave_written(self) -> None:
        """Write elsewhere from now on: what was written still waits to be sent."""
        self._written.clear()

    def room(self, variant: int, position: int, trip: int) -> tuple[int, Room]:
        """The rank of a transfer among those of a step, and room for it.

        Raises WireError if the receiver expects no such transfer.
        """
        due = variant, position, trip
        found = self._rooms.get(due)
        if found is None:
            if due not in self._due:
                raise WireError(
                    f"the peer sent transfer {position}, trip {trip}, of variant {variant}: "
                    f"there is none"
                )
            rank, transfer = self._due[due]
            found = self._rooms[due] = rank, self._make_room(variant, transfer)
        return found

    @cached_property
    def probe_room(self) -> Room:
        """Room for a probe, or for the answer to one."""
        if self._receiver is Side.EDGE:
            return Room(np.empty(FIXED_TIMES, ">u8"), ())
        return Room(np.empty(0, ">u8"), (np.empty(PROBE_BYTES, np.uint8),))

    def _make_room(self, variant: int, transfer: Transfer) -> Room:
        tensors: list[np.ndarray] = []
        decoders: list[tuple[Coder, np.ndarray] | None] = []
        for key, codec in transfer.coded:
            spec = self._plan.spec[key]
            array = self.empty(spec.numpy_shape, spec.numpy_dtype)
            if codec is Codec.NONE:
                tensors.append(array)
                decoders.append(None)
            else:
                coder = self._coder(key, codec)
                tensors.append(np.empty(coder.nbytes, np.uint8))
                decoders.append((coder, array))
        count = FIXED_TIMES + 2 * len(self._plan.cloud_parts[variant])
        times = np.empty(count if self._receiver is Side.EDGE else 0, ">u8")
        return Room(times, tuple(tensors), tuple(decoders))

    def _coder(self, key: str, codec: Codec) -> Coder:
        if (key, codec) not in self._coders:
            self._coders[key, codec] = Coder(codec, self._plan.spec[key])
        return self._coders[key, codec]
