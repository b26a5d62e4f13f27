"""A route: what one side does in a step of a variant, with loops opened and waits worked out.

It is made once per variant, so that a step only follows it. What the other side sends is waited for
as late as possible: only when a part, a move or a transfer needs a tensor that is still on its way.
So a side computes what it can while the link works.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Union

from vlacut.hardware import Side
from vlacut.plans.instructions import Move, Run, Transfer, flatten, steps
from vlacut.plans.plan import Part, Plan, Variant
from vlacut.runtime.wire.protocol.envelope import Envelope
from vlacut.runtime.wire.protocol.header import HEADER_BYTES, TENSORS
from vlacut.runtime.wire.protocol.payloads import FIXED_TIMES, LENGTH_BYTES
from vlacut.tensor.codec import Codec, coded_bytes


class Due(NamedTuple):
    """A frame that the other side sends: which Transfer of which schedule, in which trip.

    Attributes:
        variant: index of the plan's.
        position: in its flattened schedule; what runs on reset comes behind all others.
        trip: of the loop around it, from 0.
    """

    variant: int
    position: int
    trip: int


class Send(NamedTuple):
    """Send tensors with their codecs, once `needs` of the step's frames have been taken.

    Attributes:
        needs: how many frames.
        envelope: the header of the frame, but for the step.
        tensors: their keys.
        coded: the same with their codecs.
        encodes: whether any has one.
        nbytes: bytes of all on the wire; at most, where it varies.
        varies: whether the bytes of any depend on its content.
    """

    needs: int
    envelope: Envelope
    tensors: tuple[str, ...]
    coded: tuple[tuple[str, Codec], ...]
    encodes: bool
    nbytes: int
    varies: bool


class Compute(NamedTuple):
    """Run a part, once `needs` of the step's frames have been taken.

    Attributes:
        needs: how many frames.
        part: to run.
        incoming: bytes of further frames that may come while it runs.
        place: among the parts whose times the cloud's frames report.
    """

    needs: int
    part: Part
    incoming: int
    place: int


class Rename(NamedTuple):
    """Give the tensor of key `source` also the key `target`, once `needs` of the step's frames have
    been taken.
    """

    needs: int
    source: str
    target: str


class Recall(NamedTuple):
    """Take tensors of state, given by their `keys`, once `needs` of the step's frames have been
    taken.
    """

    needs: int
    keys: tuple[str, ...]


class Keep(NamedTuple):
    """Keep a tensor as state for the next step.

    Attributes:
        source: its key in this step.
        target: the key of the state.
        received: whether it lies where the next step's frames come in, so that it must be copied.
    """

    source: str
    target: str
    received: bool


Stop = Union[Send, Compute, Rename, Recall]


class Route:
    """What a side does in a step.

    Args:
        plan: of the bundle.
        side: whose route.
        variant: index of the plan's.
        first: whether in the first step of an episode, with what runs on reset before the rest.

    Attributes:
        side: whose.
        variant: index of the variant.
        name: of the variant.
        stops: what it does, in order.
        computes: names of the parts that it runs, once for each run, in order.
        due: the frames it receives, in order.
        transfers: what they hold.
        sizes: bytes of the tensors of each, as they are on the wire; at most, where they vary.
        cloud_parts: names of the cloud's parts, in the order in which frames report their times.
        times: how a frame of the cloud says these.
        ahead_bytes: of a frame that it receives, before the tensors.
        crosses: whether it sends or receives anything.
        on_reset: how many of the frames it receives are of what runs on reset.
        awaited: how many of these frames a step of the edge waits for; what comes behind them is
            state.
        keeps: what is kept for the next step, at the end of this one.
        stays: keys of state that is as it was, where the side has it.
        remembers: whether there is any state.
    """

    def __init__(self, plan: Plan, side: Side, variant: int, first: bool = False) -> None:
        self.side = side
        self.variant = variant
        self.name = plan.variants[variant].name
        self.cloud_parts = tuple(part.name for part in plan.cloud_parts[variant])
        self.times = struct.Struct(f"!{FIXED_TIMES + 2 * len(self.cloud_parts)}Q")
        self.ahead_bytes = HEADER_BYTES + (self.times.size if side is Side.EDGE else 0)
        stops: list[Stop] = []
        sizes: list[int] = []
        needs = 0
        due: list[Due] = []
        transfers: list[Transfer] = []
        awaited: dict[str, int] = {}
        keeps: list[Keep] = []
        recalled = set[str]()
        staying = plan.staying_keys

        def read(keys: Iterable[str]) -> int:
            """What must be there first; state is recalled where it is first read."""
            wanted = tuple(key for key in keys if key in plan.state_keys and key not in recalled)
            if wanted:
                recalled.update(wanted)
                stops.append(Recall(needs, wanted))
            return max(needs, _needs(awaited, keys))

        self.on_reset = self.awaited = 0
        self.remembers = bool(plan.states)
        for on_reset, position, trip, item in _steps(plan.variants[variant], first):
            if isinstance(item, Transfer) and item.source is not side:
                due.append(Due(variant, position, trip))
                transfers.append(item)
                sizes.append(_nbytes(plan, item))
                awaited.update(dict.fromkeys(item.tensors, len(due)))
                self.on_reset += on_reset
                if not item.later:
                    self.awaited = len(due)
            elif isinstance(item, Transfer):
                needs = read(item.tensors)
                stops.append(Send(needs, *self._sent(plan, item, position, trip)))
            elif isinstance(item, Run):
                part = plan.part[item.part]
                if part.side is side:
                    needs = read(part.inputs)
                    place = self.cloud_parts.index(part.name) if side is Side.CLOUD else 0
                    stops.append(Compute(needs, part, sum(sizes[needs:]), place))
            elif side not in item.sides:
                continue
            elif item.target in plan.state_keys:
                if item.target in staying or not on_reset:
                    keeps.append(Keep(item.source, item.target, item.source in awaited))
                if on_reset:  # the same step reads it, too
                    recalled.add(item.target)
                    needs = read((item.source,))
                    stops.append(Rename(needs, item.source, item.target))
            else:
                needs = read((item.source,))
                stops.append(Rename(needs, item.source, item.target))
        self.stops, self.due, self.transfers = tuple(stops), tuple(due), tuple(transfers)
        self.computes = tuple(stop.part.name for stop in stops if isinstance(stop, Compute))
        self.sizes, self.keeps = tuple(sizes), tuple(keeps)
        kept = {keep.target for keep in keeps}
        self.stays = tuple(sorted(staying - kept))
        self.crosses = bool(due) or any(isinstance(stop, Send) for stop in stops)

    def _sent(
        self, plan: Plan, item: Transfer, position: int, trip: int
    ) -> tuple[Envelope, tuple[str, ...], tuple[tuple[str, Codec], ...], bool, int, bool]:
        """What `Send` says of a transfer, behind its needs."""
        nbytes = _nbytes(plan, item)
        times = self.times.size if self.side is Side.CLOUD else 0
        envelope = Envelope(TENSORS, self.variant, position, trip, times + nbytes)
        encodes = any(codec is not Codec.NONE for codec in item.codecs)
        return envelope, item.tensors, item.coded, encodes, nbytes, item.varies


def both_routes(plan: Plan, variant: int) -> tuple[Route, Route]:
    """What the edge and the cloud do in a step of a variant, given by its index in the plan."""
    return Route(plan, Side.EDGE, variant), Route(plan, Side.CLOUD, variant)


def routes_of(plan: Plan, side: Side) -> tuple[Route, ...]:
    """The routes of a side, by variant."""
    return tuple(Route(plan, side, index) for index in range(len(plan.variants)))


def first_routes_of(plan: Plan, side: Side) -> tuple[Route, ...]:
    """The routes of a side in the first step of an episode, by variant."""
    if not plan.states:
        return ()
    return tuple(Route(plan, side, index, first=True) for index in range(len(plan.variants)))


def _steps(variant: Variant, first: bool) -> Iterator[tuple[bool, int, int, Run | Transfer | Move]]:
    """Everything a step does: whether on reset, position, trip and instruction. Positions of what
    runs on reset come behind all others.
    """
    if first:
        behind = len(flatten(variant.schedule))
        for position, trip, _, item in steps(variant.first):
            yield True, behind + position, trip, item
    for position, trip, _, item in steps(variant.schedule):
        yield False, position, trip, item


def _nbytes(plan: Plan, item: Transfer) -> int:
    """Of the tensors, as they are on the wire; at most, where they vary."""
    lengths = LENGTH_BYTES * sum(codec.varies for codec in item.codecs)
    return lengths + sum(coded_bytes(codec, plan.spec[key]) for key, codec in item.coded)


def _needs(awaited: dict[str, int], keys: Iterable[str]) -> int:
    """How many frames must have been taken for these tensors to be there."""
    return max((awaited.get(key, 0) for key in keys), default=0)
