"""Layout: what every frame of a plan holds, so that nothing has to be believed of a peer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vlacut.errors import WireError
from vlacut.hardware import Side
from vlacut.plans.instructions import Transfer
from vlacut.plans.plan import Plan
from vlacut.runtime.wire.codecs import Coder, coder_of
from vlacut.runtime.wire.protocol.payloads import FIXED_TIMES, PROBE_BYTES, flat_bytes
from vlacut.runtime.wire.route import Send, first_routes_of, routes_of
from vlacut.tensor.codec import Codec

Empty = Callable[[tuple[int, ...], "np.dtype[Any]"], np.ndarray]
_Place = tuple[int, int, int]


_Decoder = tuple[Coder, np.ndarray]  # and into what


@dataclass(frozen=True)
class Varying:
    """Room for the tensors of a transfer whose bytes vary, one after the other in coded form.

    Attributes:
        lengths: bytes of each, as they came; u32, big-endian, [tensors].
        held: uint8, as many as all of them have at most; a frame fills as much of it as it has.
        decoders: of each.
    """

    lengths: np.ndarray
    held: np.ndarray
    decoders: tuple[_Decoder, ...]

    def check(self, nbytes: int) -> None:
        """Raise WireError unless the lengths are those of so many bytes, and each may be."""
        lengths = self.lengths.tolist()
        if sum(lengths) != nbytes or any(
            length > coder.nbytes for length, (coder, _) in zip(lengths, self.decoders, strict=True)
        ):
            raise WireError(f"the peer sent pictures of {lengths} bytes in {nbytes}")

    def decoded(self) -> Iterator[np.ndarray]:
        """Each in the shape of its spec, decoded now. Raises CodecError if one came damaged."""
        at = 0
        for length, (coder, into) in zip(self.lengths.tolist(), self.decoders, strict=True):
            coder.decode(self.held[at : at + length], into)
            at += length
            yield into


@dataclass(frozen=True)
class Room:
    """Where a frame goes: the times that the cloud sends along, and the tensors.

    Attributes:
        times: of the cloud, u64, big-endian; of no length on the cloud's side.
        tensors: what is on the wire and has a fixed size, in coded form where there is a codec.
        decoders: what decodes each of these, and into what; None for those that go as they are.
        varying: the others; None if there are none.
        varies: of each tensor of the transfer, whether it is among these; empty if none is.
    """

    times: np.ndarray
    tensors: tuple[np.ndarray, ...]
    decoders: tuple[_Decoder | None, ...] = ()
    varying: Varying | None = None
    varies: tuple[bool, ...] = ()

    @cached_property
    def nbytes(self) -> int:
        """Bytes of the payload, at most."""
        return sum(array.nbytes for array in self._arrays)

    @cached_property
    def least_bytes(self) -> int:
        """Bytes of the payload, at least."""
        return self.nbytes - (self.varying.held.nbytes if self.varying else 0)

    @cached_property
    def _arrays(self) -> tuple[np.ndarray, ...]:
        if self.varying is None:
            return (self.times, *self.tensors)
        return (self.times, self.varying.lengths, *self.tensors, self.varying.held)

    def payload(self, nbytes: int) -> tuple[np.ndarray, ...]:
        """What a payload of so many bytes fills, in order."""
        if self.varying is None:
            return self._arrays
        return (*self._arrays[:-1], self.varying.held[: nbytes - self.least_bytes])

    @cached_property
    def views(self) -> tuple[memoryview, ...]:
        """The bytes of the largest payload, in order."""
        return _views(self._arrays)

    def views_of(self, nbytes: int) -> tuple[memoryview, ...]:
        """The same of a payload of so many bytes."""
        return self.views if nbytes == self.nbytes else _views(self.payload(nbytes))

    def check(self, nbytes: int) -> None:
        """Raise WireError if a payload of so many bytes, now whole, holds other tensors."""
        if self.varying is not None:
            self.varying.check(nbytes - self.least_bytes)

    @cached_property
    def coded(self) -> bool:
        """Whether any tensor is in coded form."""
        return any(self.decoders) or self.varying is not None

    def decoded(self) -> tuple[np.ndarray, ...]:
        """The tensors of the transfer, in its order and their specs' shapes, those in coded form
        decoded now.

        Raises CodecError if one came damaged.
        """
        if not self.coded:
            return self.tensors
        fixed = map(_decoded, self.tensors, self.decoders)
        if self.varying is None:
            return tuple(fixed)
        varying = self.varying.decoded()
        return tuple(next(varying if varies else fixed) for varies in self.varies)


def _views(arrays: Iterable[np.ndarray]) -> tuple[memoryview, ...]:
    return tuple(flat_bytes(array).data for array in arrays if array.nbytes)


def _decoded(tensor: np.ndarray, decoder: _Decoder | None) -> np.ndarray:
    if decoder is None:
        return tensor
    coder, into = decoder
    coder.decode(tensor, into)
    return into


class Layout:
    """The frames of a plan, as `receiver` receives them, and room for one step of each variant.

    Room is made when a transfer is first received, and used again in every later step: what a step
    received is overwritten by the next one.

    Args:
        plan: of the bundle.
        receiver: the side that receives them.
        empty: makes room of a shape and an element type.

    Attributes:
        empty: the same.
        receiver: the same.
        remembers: whether the plan has state.
    """

    def __init__(self, plan: Plan, receiver: Side, empty: Empty = np.empty) -> None:
        self._plan = plan
        self.empty = empty
        self.receiver = receiver
        self.remembers = bool(plan.states)
        self._due: dict[_Place, tuple[int, Transfer]] = {}
        self._encodes: list[tuple[str, Codec]] = []  # at each place of its own, see `encoded`
        self._most = 0
        for route in (*routes_of(plan, receiver), *first_routes_of(plan, receiver)):
            self._most = max(self._most, len(route.due))
            # what runs on reset comes before the first frame of a step
            ranks = enumerate(route.transfers, -route.on_reset)
            self._due |= zip(route.due, ranks, strict=True)
            sends = (stop for stop in route.stops if isinstance(stop, Send))
            self._encodes += [item for stop in sends if stop.encodes for item in stop.coded]
        self._rooms: dict[_Place, tuple[int, Room]] = {}
        self._state_rooms: dict[int, Room] = {}
        self._coders: dict[tuple[str, Codec], Coder] = {}
        self._written: dict[tuple[_Place, str], np.ndarray] = {}  # empty key: all that varies

    @property
    def most_frames(self) -> int:
        """Most frames that a step of any variant receives."""
        return self._most + len(self._plan.states)

    @property
    def nbytes(self) -> int:
        """Bytes of tensors that all its room comes to, what is decoded and to send included."""
        received = [item for _, transfer in self._due.values() for item in transfer.coded]
        coded = [*received, *self._encodes]
        nbytes = sum(self._plan.spec[key].nbytes for key, _ in received)
        nbytes += sum(self._plan.spec[state.key].nbytes for state in self._plan.states)
        return nbytes + sum(
            self._coder(*item).nbytes for item in coded if item[1] is not Codec.NONE
        )

    def encoded(
        self, place: _Place, coded: Sequence[tuple[str, Codec]], arrays: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """What of tensors goes on the wire; overwritten at that place of the next step.

        Args:
            place: variant, position and trip of the transfer that sends them.
            coded: their keys, and how they are written.
            arrays: the tensors, in the shapes of their specs.

        Returns, where there are any that vary, their lengths in bytes (u32, big-endian); then those
        of fixed length, each as it is or uint8; then the bytes of those that vary. Raises
        InputError if the library of a codec is not there.
        """
        fixed: list[np.ndarray] = []
        varying: list[tuple[Coder, np.ndarray]] = []
        for (key, codec), array in zip(coded, arrays, strict=True):
            if codec is Codec.NONE:
                fixed.append(array)
                continue
            coder, packed = self._coder(key, codec), np.require(array, requirements="C")
            if codec.varies:
                varying.append((coder, packed))
            else:
                fixed.append(self._room_to_write(place, key, coder.nbytes))
                coder.encode(packed, fixed[-1])
        if not varying:
            return fixed
        held = self._room_to_write(place, "", sum(coder.nbytes for coder, _ in varying))
        ends = [0]
        for coder, packed in varying:
            ends.append(ends[-1] + coder.encode(packed, held[ends[-1] :]))
        return [np.diff(ends).astype(">u4"), *fixed, held[: ends[-1]]]

    def _room_to_write(self, place: _Place, key: str, nbytes: int) -> np.ndarray:
        if (place, key) not in self._written:
            self._written[place, key] = np.empty(nbytes, np.uint8)
        return self._written[place, key]

    def leave_written(self) -> None:
        """Write elsewhere from now on: what was written still waits to be sent."""
        self._written.clear()

    def room(self, variant: int, position: int, trip: int) -> tuple[int, Room]:
        """The rank of a transfer among those of a step, and room for it.

        Args:
            variant: index of the plan's.
            position: of the transfer in the variant's flattened schedule.
            trip: of the loop around it.

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

    def state_room(self, index: int) -> Room:
        """Room for a tensor of state, by its index in the plan. Raises WireError for no such."""
        if index >= len(self._plan.states):
            raise WireError(f"the peer sent state {index}: there is none")
        if index not in self._state_rooms:
            spec = self._plan.spec[self._plan.states[index].key]
            array = np.empty(spec.numpy_shape, spec.numpy_dtype)
            self._state_rooms[index] = Room(np.empty(0, ">u8"), (array,))
        return self._state_rooms[index]

    @cached_property
    def no_room(self) -> Room:
        """For a frame without a payload."""
        return Room(np.empty(0, ">u8"), ())

    @cached_property
    def probe_room(self) -> Room:
        """Room for a probe, or for the answer to one."""
        if self.receiver is Side.EDGE:
            return Room(np.empty(FIXED_TIMES, ">u8"), ())
        return Room(np.empty(0, ">u8"), (np.empty(PROBE_BYTES, np.uint8),))

    def _make_room(self, variant: int, transfer: Transfer) -> Room:
        tensors: list[np.ndarray] = []
        decoders: list[_Decoder | None] = []
        varying: list[_Decoder] = []
        for key, codec in transfer.coded:
            spec = self._plan.spec[key]
            array = self.empty(spec.numpy_shape, spec.numpy_dtype)
            if codec is Codec.NONE:
                tensors.append(array)
                decoders.append(None)
                continue
            decoder = self._coder(key, codec), array
            if codec.varies:
                varying.append(decoder)
            else:
                tensors.append(np.empty(decoder[0].nbytes, np.uint8))
                decoders.append(decoder)
        count = FIXED_TIMES + 2 * len(self._plan.cloud_parts[variant])
        times = np.empty(count if self.receiver is Side.EDGE else 0, ">u8")
        if not varying:
            return Room(times, tuple(tensors), tuple(decoders))
        held = np.empty(sum(coder.nbytes for coder, _ in varying), np.uint8)
        varies = tuple(codec.varies for _, codec in transfer.coded)
        lengths = np.empty(len(varying), ">u4")
        room = Varying(lengths, held, tuple(varying))
        return Room(times, tuple(tensors), tuple(decoders), room, varies)

    def _coder(self, key: str, codec: Codec) -> Coder:
        if (key, codec) not in self._coders:
            self._coders[key, codec] = coder_of(codec, self._plan.spec[key])
        return self._coders[key, codec]
