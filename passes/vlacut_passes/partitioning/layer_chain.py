"""A program as one chain of layers, and what a single cut of the chain costs, for every place.

Layered systems know no other cuts: everything before the place is on the edge, everything behind it
in the cloud. The tasks of later phases go with those of the first phase that read the same weights:
a layer is in one place, whatever the number of its executions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vlacut.hardware import Link
from vlacut.pricing import CostGraph, Dependency, Side, When, count_hops, parallels
from vlacut_passes.partitioning.overlap import states

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
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
        rank = np.zeros(len(self.graph.tasks), dtype=np.int64)
        for index, task in enumerate(self.graph.tasks):
            rank[index] = len(self.order) if task.pinned is Side.CLOUD else -1
        rank[list(self.order)] = np.arange(len(self.order))
        return rank

    def sides(self, place: int) -> tuple[Side, ...]:
        """The cut at a place from 0 (all that may be is in the cloud) to `len(order)` (edge)."""
        return tuple(Side.CLOUD if one else Side.EDGE for one in (self.rank >= place).tolist())

    def compute_s(self) -> Floats:
        """Seconds of compute, a place."""
        graph = self.graph
        trips = [graph.trips_of(index) for index in range(len(graph.tasks))]
        tasks = list(zip(graph.tasks, trips, strict=True))
        edge = np.array([task.edge_s * times for task, times in tasks])
        cloud = np.array([task.cloud_s * times for task, times in tasks])
        order = list(self.order)
        fixed = edge[self.rank < 0].sum() + cloud[self.rank == len(order)].sum()
        before = np.concatenate([[0.0], np.cumsum(edge[order])])
        behind = np.concatenate([[0.0], np.cumsum(cloud[order][::-1])])[::-1]
        return np.asarray(fixed + before + behind)

    def transfer_s(self, link: Link) -> Floats:
        """Seconds of transfers, a place."""
        rank, seconds = self.rank, np.zeros(len(self.order) + 1)
        for flow in self.graph.flows:
            home, read = int(rank[flow.producer]), rank[list(flow.consumers)]
            seconds[home + 1 : int(read.max()) + 1] += flow.crossing_s(Side.EDGE, link)
            seconds[int(read.min()) + 1 : home + 1] += flow.crossing_s(Side.CLOUD, link)
        return seconds

    def held_bytes(self, side: Side) -> Ints:
        """Bytes of the distinct weights on a side, a place."""
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for task, rank in zip(self.graph.tasks, self.rank.tolist(), strict=True):
            for weight in task.weights:
                first[weight] = min(first.get(weight, rank), rank)
                last[weight] = max(last.get(weight, rank), rank)
        nbytes = np.zeros(len(self.order) + 1, dtype=np.int64)
        for weight in first:
            if side is Side.EDGE:
                nbytes[first[weight] + 1 :] += self.graph.weights[weight]
            else:
                nbytes[: last[weight] + 1] += self.graph.weights[weight]
        return nbytes

    def fewest_hops(self) -> Ints:
        """A lower bound on the hops, a place."""
        graph = self.graph
        hops = self._first_hops()
        for phase, trips in enumerate(graph.trips):
            if trips > 1:
                edges = [
                    one
                    for one in graph.dependencies
                    if graph.tasks[one.consumer].phase == phase and one.when is not When.INITIAL
                ]
                hops += (trips - 1) * self._depth(edges)
        return hops

    def _first_hops(self) -> Ints:
        """One where a dependency crosses, two where it goes up to a task the action waits for."""
        forward = [one for one in self.graph.dependencies if one.when is not When.CARRIED]
        awaited = {len(self.graph.tasks) - 1}
        for edge in reversed(forward):  # sorted by consumer, so all consumers come first
            if edge.consumer in awaited:
                awaited.add(edge.producer)
        depth = np.zeros(len(self.order) + 1, dtype=np.int64)
        for edge in forward:
            start, end = int(self.rank[edge.producer]), int(self.rank[edge.consumer])
            low, high = min(start, end) + 1, max(start, end) + 1
            least = 2 if start < end and edge.consumer in awaited else 1
            depth[low:high] = np.maximum(depth[low:high], least)
        return depth

    def _depth(self, edges: Sequence[Dependency]) -> Ints:
        """Changes on the deepest chain: 1 where a dependency crosses, 2 where a carried value comes
        down to a task from which the same trip goes up again.
        """
        rank, depth = self.rank, np.zeros(len(self.order) + 1, dtype=np.int64)
        reach = rank.copy()
        for edge in sorted(edges, key=lambda one: -one.producer):
            if edge.when is When.WITHIN:
                reach[edge.producer] = max(reach[edge.producer], reach[edge.consumer])
        for edge in edges:
            low, high = sorted((int(rank[edge.producer]), int(rank[edge.consumer])))
            depth[low + 1 : high + 1] = np.maximum(depth[low + 1 : high + 1], 1)
        for edge in edges:
            if edge.when is not When.WITHIN:
                again = min(int(rank[edge.producer]), int(reach[edge.consumer])) + 1
                depth[int(rank[edge.consumer]) + 1 : again] = 2
        return depth

    def cheapest(self, link: Link, allowed: NDArray[np.bool_]) -> int:
        """The allowed place of the lowest price, the last of them; the last place if none is."""
        serial = self.compute_s() + self.transfer_s(link)
        least = serial + link.hop_s * self.fewest_hops() - self._most_saved_s(link)
        best, best_s = len(self.order), np.inf
        for place in sorted(np.flatnonzero(allowed).tolist(), key=lambda one: (least[one], -one)):
            if least[place] >= best_s:
                break
            exact_s = serial[place] + link.hop_s * count_hops(self.graph, self.sides(place))
            exact_s -= sum(one.saved_s(link) for one in parallels(self.graph, self.sides(place)))
            if exact_s < best_s:
                best, best_s = place, exact_s
        return best

    def _most_saved_s(self, link: Link) -> float:
        """What working in parallel may save at any place."""
        found = (states(self.graph, section, link) for section in self.graph.sections)
        return sum(options[0].saved_s for options in found if options)


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
