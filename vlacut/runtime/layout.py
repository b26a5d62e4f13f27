"""Layout: what every frame of a plan holds, so that nothing has to be believed of a peer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vlacut.codec import Codec
from vlacut.errors import WireError
from vlacut.plan import Loop, Plan, Transfer, Variant, taken
from vlacut.pricing import Side
from vlacut.runtime.codecs import Coder

_Place = tuple[int, int, int]
FIXED_TIMES = 4  # frames taken, when the last was complete, when this one was sent, codecs


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

    @property
    def nbytes(self) -> int:
        """Of the payload."""
        return self.times.nbytes + sum(tensor.nbytes for tensor in self.tensors)

    @property
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


@dataclass(frozen=True)
class _Due:
    """A frame of a step: how many of its variant come before it, and what it holds."""

    rank: int
    transfer: Transfer


class Layout:
    """The frames of a plan, as `receiver` receives them, and room for one step of each variant.

    Room is made when a transfer is first received, and used again in every later step: what a step
    received is overwritten by the next one.
    """

    def __init__(self, plan: Plan, receiver: Side) -> None:
        self._plan = plan
        self._receiver = receiver
        self._due: dict[tuple[int, int, int], _Due] = {}
        for index, variant in enumerate(plan.variants):
            due = (found for found in _transfers(variant) if found[2].source is not receiver)
            for rank, (position, trip, transfer) in enumerate(due):
                self._due[index, position, trip] = _Due(rank, transfer)
        self._rooms: dict[tuple[int, int, int], Room] = {}
        self._coders: dict[tuple[str, Codec], Coder] = {}
        self._written: dict[tuple[_Place, str], np.ndarray] = {}

    @property
    def most_frames(self) -> int:
        """Most frames that a step of any variant receives."""
        return max((due.rank + 1 for due in self._due.values()), default=0)

    @property
    def nbytes(self) -> int:
        """Bytes of tensors that all its room comes to, what is decoded and to send included."""
        coded = [item for due in self._due.values() for item in due.transfer.coded]
        nbytes = sum(self._plan.spec[key].nbytes for key, _ in coded)
        nbytes += sum(self._coder(*item).nbytes for item in coded if item[1] is not Codec.NONE)
        sent = (
            item
            for variant in self._plan.variants
            for _, _, transfer in _transfers(variant)
            if transfer.source is self._receiver
            for item in transfer.coded
            if item[1] is not Codec.NONE
        )
        return nbytes + sum(self._coder(*item).nbytes for item in sent)

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
        tensors: list[np.ndarray] = []
        decoders: list[tuple[Coder, np.ndarray] | None] = []
        for key, codec in transfer.coded:
            spec = self._plan.spec[key]
            array = np.empty(spec.numpy_shape, spec.numpy_dtype)
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
