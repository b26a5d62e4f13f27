"""A cost graph as columns: an array per attribute, for what walks over all tasks and flows."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vlacut.pricing.phase_loops import MOST_LEADING, PhaseLoop
from vlacut.tensor.numerics import Floats, Ints

FREE = -1


@dataclass(frozen=True)
class Coded:
    """The cost of a production of every flow, if it crosses in one direction."""

    nbytes: Ints
    edge_s: Floats
    cloud_s: Floats


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Tasks, flows and dependencies by their index in the graph. A side is 0 (edge) or 1 (cloud).

    Attributes:
        phase, trips: of every task.
        edge_s, cloud_s: compute of every task by side, per control step.
        pinned: the side of every pinned task; FREE for the others.
        reader, read: pairs of a task and a weight that it reads.
        weights, edge_weights: bytes of every weight, as the cloud holds it, and the edge.
        producer, count, nbytes, before_last: of every flow.
        start, consumers: flow i is read by `consumers[start[i]:start[i + 1]]`.
        up, down: of every flow.
        before, after: of every dependency, the producer and the consumer.
        initial, carried: whether every dependency is initial, or carried; else it is within a trip.
    """

    phase: Ints
    trips: Ints
    edge_s: Floats
    cloud_s: Floats
    pinned: Ints
    reader: Ints
    read: Ints
    weights: Ints
    edge_weights: Ints
    producer: Ints
    count: Ints
    nbytes: Ints
    before_last: NDArray[np.bool_]
    start: Ints
    consumers: Ints
    up: Coded
    down: Coded
    before: Ints
    after: Ints
    initial: NDArray[np.bool_]
    carried: NDArray[np.bool_]

    @cached_property
    def owner(self) -> Ints:
        """The flow of every entry of `consumers`."""
        return np.repeat(np.arange(len(self.producer)), np.diff(self.start))

    def crossed(self, x: Ints) -> NDArray[np.bool_]:
        """The flows that have their producer and one of their consumers on different sides."""
        found = np.zeros(len(self.producer), dtype=bool)
        found[self.owner[x[self.consumers] != x[self.producer][self.owner]]] = True
        return found

    def crossing_s(self, coded: Coded, rate: float) -> Floats:
        """Seconds of every flow per control step where it crosses: link, codec, conversions."""
        codec_s = coded.edge_s + coded.cloud_s
        return coded.nbytes * self.count / rate + codec_s * self.count

    def held_bytes(self, there: NDArray[np.bool_], on_edge: bool = False) -> int:
        """Bytes of the distinct weights that some tasks read, as the cloud holds them or edge."""
        weights = self.edge_weights if on_edge else self.weights
        held = np.zeros(len(weights), dtype=bool)
        held[self.read[there[self.reader]]] = True
        return int(weights[held].sum())

    def hops(self, x: Ints, one_way: Container[int]) -> int:
        """Changes of side that follow one another in a control step, see `vlacut.pricing.price`.

        `one_way` are the phases whose later trips do not wait.
        """
        side = x.tolist() * 2
        return sum(
            times * _deepest(edges, side)
            for (phase, times, _, _), edges in zip(self.waits, self._edges, strict=True)
            if phase not in one_way
        )

    @cached_property
    def loops(self) -> list[PhaseLoop]:
        """Phases of several trips, in order."""
        phase, found = self.phase[self.after], []
        for one in np.unique(self.phase[self.trips > 1]).tolist():
            within = (phase == one) & ~self.initial & ~self.carried
            carried = (phase == one) & self.carried
            found.append(
                PhaseLoop(
                    phase=one,
                    times=int(self.trips[self.phase == one][0]) - 1,
                    before=self.before[within],
                    after=self.after[within],
                    left=self.before[carried],
                    taken=self.after[carried],
                )
            )
        longest = sorted(found, key=lambda loop: (-loop.times, loop.phase))
        waiting = {loop.phase for loop in longest[MOST_LEADING:]}
        return [replace(loop, may_lead=loop.phase not in waiting) for loop in found]

    @cached_property
    def waits(self) -> list[tuple[int, int, Ints, Ints]]:
        """What waits for what in a trip of a kind, tail for head; its phase, and how often it is.

        The first trips of all phases are of one kind, of phase -1, the later trips of every phase
        of another. A tail from outside the trip has the number of its task plus that of all tasks.
        """
        count = len(self.phase)
        first = ~self.carried
        found = [(-1, 1, self.before[first], self.after[first])]
        tail, phase = self.before + count * self.carried, self.phase[self.after]
        for loop in self.loops:
            mine = (phase == loop.phase) & ~self.initial
            found.append((loop.phase, loop.times, tail[mine], self.after[mine]))
        return found

    @cached_property
    def _edges(self) -> list[list[tuple[int, int]]]:
        return [
            list(zip(tail.tolist(), head.tolist(), strict=True)) for _, _, tail, head in self.waits
        ]


@dataclass(frozen=True)
class Moved:
    """What crosses in one direction in a control step."""

    nbytes: int
    edge_s: float
    cloud_s: float


def moved(columns: Columns, coded: Coded, crossed: NDArray[np.bool_]) -> Moved:
    """The cost of the flows that cross, in these codings."""
    count = columns.count[crossed]
    return Moved(
        int(coded.nbytes[crossed] @ count),
        sum((coded.edge_s[crossed] * count).tolist(), 0.0),
        sum((coded.cloud_s[crossed] * count).tolist(), 0.0),
    )


def _deepest(edges: Iterable[tuple[int, int]], side: Sequence[int]) -> int:
    """The most changes of side on a path, edges being sorted by head."""
    depth = [0] * len(side)
    for tail, head in edges:
        reached = depth[tail] + (side[tail] != side[head])
        if reached > depth[head]:
            depth[head] = reached
    return max(depth)
