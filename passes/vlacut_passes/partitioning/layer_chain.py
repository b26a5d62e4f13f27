"""A program as one chain of layers, and what a single cut of the chain costs, for every place.

Layered systems know no other cuts: everything before the place is on the edge, and everything
behind it is in the cloud. A task of a later phase goes with the tasks of the first phase that read
the same weights. So a layer is in one place, whatever the number of its executions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlacut.hardware import Link, Side
from vlacut.pricing.cost_graph import CostGraph, When
from vlacut.pricing.overlap import one_way_loops, parallels
from vlacut.pricing.phase_loops import PhaseLoop
from vlacut.tensor.numerics import Floats, Ints
from vlacut_passes.partitioning.states import states

_SIDES = (Side.EDGE, Side.CLOUD)  # by whether it is in the cloud
_CONSTANT_BYTES = 1024  # smaller weights are constants that operators everywhere share


@dataclass(frozen=True)
class LayerChain:
    """The chain of a graph. Place k leaves the first k tasks of the chain on the edge.

    Attributes:
        order: tasks that are not pinned. Every task comes after those whose value it reads in the
            same trip.
    """

    graph: CostGraph
    order: tuple[int, ...]

    @cached_property
    def rank(self) -> Ints:
        """A task is in the cloud where rank >= place. Pinned ones are beyond all places."""
        rank = np.where(self.graph.columns.pinned == 1, len(self.order), -1)
        rank[list(self.order)] = np.arange(len(self.order))
        return rank

    def sides(self, place: int) -> tuple[Side, ...]:
        """The cut at a place from 0 (all that may be is in the cloud) to `len(order)` (edge)."""
        return tuple(map(_SIDES.__getitem__, (self.rank >= place).tolist()))

    def compute_s(self) -> Floats:
        """Seconds of compute, per place."""
        columns, order = self.graph.columns, list(self.order)
        edge, cloud = columns.edge_s, columns.cloud_s
        fixed = edge[self.rank < 0].sum() + cloud[self.rank == len(order)].sum()
        before = np.concatenate([[0.0], np.cumsum(edge[order])])
        behind = np.concatenate([[0.0], np.cumsum(cloud[order][::-1])])[::-1]
        return np.asarray(fixed + before + behind)

    def transfer_s(self, link: Link, among: NDArray[np.bool_] | None = None) -> Floats:
        """Seconds of transfers, per place; of some flows, or of all."""
        columns = self.graph.columns
        home, read = self.rank[columns.producer], self.rank[columns.consumers]
        first, last = home.copy(), home.copy()
        np.minimum.at(first, columns.owner, read)
        np.maximum.at(last, columns.owner, read)
        counted = np.ones(len(home)) if among is None else among.astype(np.float64)
        up = columns.crossing_s(columns.up, link.up) * counted
        down = columns.crossing_s(columns.down, link.down) * counted
        return np.asarray(self._between(home, last, up) + self._between(first, home, down))

    def held_bytes(self, side: Side) -> Ints:
        """Bytes of the distinct weights on a side, per place."""
        columns, places = self.graph.columns, len(self.order)
        nbytes = columns.edge_weights if side is Side.EDGE else columns.weights
        rank = self.rank[columns.reader]
        first = np.full(len(columns.weights), places)
        last = np.full(len(columns.weights), -1)
        np.minimum.at(first, columns.read, rank)
        np.maximum.at(last, columns.read, rank)
        read = np.bincount(columns.read, minlength=len(first)) > 0
        if side is Side.EDGE:
            low, high = first[read], np.full(int(read.sum()), places)
        else:
            low, high = np.full(int(read.sum()), -1), last[read]
        return self._between(low, high, nbytes[read])

    def _between(self, low: Ints, high: Ints, amount: NDArray[Any]) -> NDArray[Any]:
        """What is there at the places behind `low` up to `high`, per place."""
        there = np.zeros(len(self.order) + 2, dtype=amount.dtype)
        np.add.at(there, low + 1, amount)
        np.subtract.at(there, np.minimum(high, len(self.order)) + 1, amount)
        return np.cumsum(there)[:-1]

    def fewest_hops(self) -> Ints:
        """A lower bound on the hops, per place."""
        columns = self.graph.columns
        hops = self._first_hops()
        phase = columns.phase[columns.after]
        for loop in columns.loops:
            depth = self._depth((phase == loop.phase) & ~columns.initial)
            hops += loop.times * depth * ~self._one_way(loop)
        return hops

    def _one_way(self, loop: PhaseLoop) -> NDArray[np.bool_]:
        """Whether a loop leads one way, per place."""
        if not loop.may_lead:
            return np.zeros(len(self.order) + 1, dtype=bool)
        start, end = self.rank[loop.before], self.rank[loop.after]
        left, taken = self.rank[loop.left], self.rank[loop.taken]
        both_ways = self._covered(start, end) * self._covered(end, start)
        carried = self._covered(np.minimum(left, taken), np.maximum(left, taken))
        return np.asarray(both_ways + carried == 0)

    def _pipelined_s(self, loop: PhaseLoop, link: Link) -> Floats:
        """What a loop saves where it leads one way, per place."""
        columns, last = self.graph.columns, np.full(len(self.rank), len(self.order))
        mine = columns.phase == loop.phase
        later = mine * (loop.times / (loop.times + 1))
        edge_s = self._between(self.rank, last, columns.edge_s * later)
        cloud_s = self._between(np.full(len(last), -1), self.rank, columns.cloud_s * later)
        moved_s = self.transfer_s(link, columns.before_last & mine[columns.producer])
        stages = np.stack([edge_s, cloud_s, moved_s])
        return np.asarray((stages.sum(axis=0) - stages.max(axis=0)) * self._one_way(loop))

    def _first_hops(self) -> Ints:
        """One where a dependency crosses, two where it goes up to a task the action waits for."""
        columns = self.graph.columns
        forward = ~columns.carried
        before, after = columns.before[forward], columns.after[forward]
        awaited = np.zeros(len(self.graph.tasks), dtype=bool)
        awaited[-1] = True
        for producer, consumer in zip(before[::-1].tolist(), after[::-1].tolist(), strict=True):
            if awaited[consumer]:  # sorted by consumer, so all consumers come first
                awaited[producer] = True
        start, end = self.rank[before], self.rank[after]
        up = (start < end) & awaited[after]
        once = self._covered(np.minimum(start, end), np.maximum(start, end))
        return np.maximum(once, 2 * self._covered(start[up], end[up]))

    def _depth(self, among: NDArray[np.bool_]) -> Ints:
        """Changes on the deepest chain of some dependencies: 1 where one crosses, 2 where a carried
        value comes down to a task from which the same trip goes up again.
        """
        columns = self.graph.columns
        before, after = columns.before[among], columns.after[among]
        carried = columns.carried[among]
        reach = self.rank.tolist()
        order = np.argsort(-before[~carried], kind="stable")
        makers, readers = before[~carried][order].tolist(), after[~carried][order].tolist()
        for maker, reader in zip(makers, readers, strict=True):
            reach[maker] = max(reach[maker], reach[reader])
        start, end = self.rank[before], self.rank[after]
        once = self._covered(np.minimum(start, end), np.maximum(start, end))
        again = np.minimum(start, np.array(reach)[after])
        twice = self._covered(end[carried], again[carried])
        return np.maximum(once, 2 * twice)

    def _covered(self, low: Ints, high: Ints) -> Ints:
        """1 at the places that are behind `low` and not behind `high` for some pair, per place."""
        some = high > low
        return (self._between(low[some], high[some], np.ones_like(low[some])) > 0).astype(np.int64)

    def cheapest(self, link: Link, allowed: NDArray[np.bool_]) -> int:
        """The allowed place of the lowest price, the last of them; the last place if none is."""
        serial = self.compute_s() + self.transfer_s(link)
        least = serial + link.hop_s * self.fewest_hops() - self._most_saved_s(link)
        for loop in self.graph.columns.loops:
            least -= self._pipelined_s(loop, link)
        best, best_s = len(self.order), np.inf
        for place in sorted(np.flatnonzero(allowed).tolist(), key=lambda one: (least[one], -one)):
            if least[place] >= best_s:
                break
            exact_s = serial[place] + self._waited_s(place, link)
            if exact_s < best_s:
                best, best_s = place, exact_s
        return best

    def _waited_s(self, place: int, link: Link) -> float:
        """Hops less overlap at a place."""
        sides, x = self.sides(place), (self.rank >= place).astype(np.int64)
        one_way = one_way_loops(self.graph, x)
        hops = self.graph.columns.hops(x, [loop.phase for loop in one_way])
        saved = (one.saved_s(link) for one in parallels(self.graph, sides, x, one_way))
        return hops * link.hop_s - sum(saved)

    def _most_saved_s(self, link: Link) -> float:
        """What working in parallel in regions may save at any place."""
        every = (states(self.graph, region, link) for region in self.graph.regions)
        return sum(options[0].saved_s for options in every if options)


def layer_chain(graph: CostGraph) -> LayerChain:
    """Order the tasks of a graph as a chain of layers.

    A task's layer is the latest of its producers' layers and of the first tasks that read its
    weights. In a phase that runs the layers of an earlier one again (decode after prefill), only
    weights of that one count, and so do no values from it: they go back to the chain's start.
    """
    again = _phases_again(graph)
    first: dict[int, int] = {}
    layers: list[int] = []
    makers = _makers(graph, again)
    for index, task in enumerate(graph.tasks):
        read = [weight for weight in task.weights if graph.weights[weight] >= _CONSTANT_BYTES]
        if task.phase not in again:
            first |= {weight: index for weight in read if weight not in first}
        known = [layers[maker] for maker in makers[index]]
        known += [first[weight] for weight in read if weight in first]
        layers.append(max(known, default=0))
    free = [index for index, task in enumerate(graph.tasks) if task.pinned is None]
    return LayerChain(graph, tuple(sorted(free, key=lambda one: (layers[one], one))))


def _makers(graph: CostGraph, again: Mapping[int, int]) -> list[list[int]]:
    """For every task, the tasks it comes after in the chain."""
    makers: list[list[int]] = [[] for _ in graph.tasks]
    for edge in graph.dependencies:
        origin = graph.tasks[edge.producer].phase
        back = again.get(graph.tasks[edge.consumer].phase) == origin
        if edge.when is When.WITHIN or (edge.when is When.INITIAL and not back):
            makers[edge.consumer].append(edge.producer)
    return makers


def _phases_again(graph: CostGraph) -> dict[int, int]:
    """Phases that read weights of an earlier phase, and that phase."""
    reader: dict[int, int] = {}
    again: dict[int, int] = {}
    for task in graph.tasks:
        for weight in task.weights:
            if graph.weights[weight] >= _CONSTANT_BYTES:
                origin = reader.setdefault(weight, task.phase)
                if origin < task.phase:
                    again.setdefault(task.phase, origin)
    return again
