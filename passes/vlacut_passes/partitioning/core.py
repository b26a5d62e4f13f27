"""The search's own form of a `CostGraph`: variables instead of tasks, arrays instead of objects.

A *variable* is a group of tasks known to be on one side; its value is 1 in the cloud, 0 on the
edge. Variable 0 is the edge itself and variable 1 the cloud: what is pinned belongs to them.
Merging variables keeps the form, so every step of the search works on what the last one left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vlacut.hardware import Link, Power
from vlacut.pricing import CostGraph, Flow, Side, When
from vlacut_passes.partitioning.chains import ChainGraph
from vlacut_passes.partitioning.limits import Limits, Quantity

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
EDGE, CLOUD = 0, 1
LINEAR = (Quantity.LATENCY, Quantity.CLOUD_TIME, Quantity.ENERGY)  # rows of `base` and `unary`


@dataclass(frozen=True)
class Sets:
    """Sets of variables, one after the other: set i is `members[start[i]:start[i + 1]]`."""

    start: Ints
    members: Ints

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def owner(self) -> Ints:
        """The set that every member belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.start))

    def highest(self, x: Ints) -> Ints:
        """Per set, the highest value of a member. Sets must not be empty."""
        return np.maximum.reduceat(x[self.members], self.start[:-1]) if len(self) else x[:0]

    def lowest(self, x: Ints) -> Ints:
        """Per set, the lowest value of a member. Sets must not be empty."""
        return np.minimum.reduceat(x[self.members], self.start[:-1]) if len(self) else x[:0]


@dataclass(frozen=True)
class Nets:
    """Flows: `up` is paid if the producer is 0 and a consumer 1, `down` the other way round.

    In seconds; `up_j` and `down_j` in joules of the edge.
    """

    producer: Ints
    consumers: Sets
    up: Floats
    down: Floats
    up_j: Floats
    down_j: Floats

    def moved(self, x: Ints) -> tuple[float, float]:
        """Seconds and joules of the transfers of an assignment."""
        home = x[self.producer]
        up = (home == 0) & (self.consumers.highest(x) == 1)
        down = (home == 1) & (self.consumers.lowest(x) == 0)
        return float(self.up @ up + self.down @ down), float(self.up_j @ up + self.down_j @ down)


@dataclass(frozen=True)
class Core:
    """Find x in {0, 1}^size with x[0] = 0 and x[1] = 1 that minimises a quantity within limits.

    Compute is `base + unary @ x`, by `LINEAR` quantity. Latency and energy have flows and, for
    every chain graph, rate times the deepest chain of changes on top, in seconds of the step; a
    second of the step costs the edge `idle_w` joules. A weight is held on a side where it has a
    user.

    Attributes:
        of_task: the variable of every task.
        base: by `LINEAR` quantity.
        unary: by `LINEAR` quantity and variable; zero for variables 0 and 1, which are in
            `base`.
        users: the variables that read each weight; without EDGE or CLOUD where what that side holds
            is neither limited nor minimised.
        nbytes: of each weight.
        limits: what is asked for.
        idle_w: watts of the edge while it waits.
    """

    size: int
    of_task: Ints
    base: Floats
    unary: Floats
    flows: Nets
    chains: tuple[ChainGraph, ...]
    users: Sets
    nbytes: Ints
    limits: Limits
    idle_w: float

    def serial_s(self, x: Ints) -> float:
        """Compute and transfers, without hops."""
        return float(self.base[0] + self.unary[0] @ x + self.flows.moved(x)[0])

    def hop_s(self, x: Ints) -> float:
        """Hops."""
        return sum(chain.rate * chain.deepest(x).depth for chain in self.chains)

    def cloud_s(self, x: Ints) -> float:
        """Compute in the cloud."""
        return float(self.base[1] + self.unary[1] @ x)

    def cloud_bytes(self, x: Ints) -> int:
        """Bytes of the weights with a user in the cloud."""
        return int(self.nbytes @ self.users.highest(x))

    def edge_bytes(self, x: Ints) -> int:
        """Bytes of the weights with a user on the edge."""
        return int(self.nbytes @ (1 - self.users.lowest(x)))

    def quantities(self, x: Ints, hop_s: float) -> Floats:
        """All quantities of an assignment with these hops, by `Quantity`."""
        held = (self.cloud_bytes(x), self.edge_bytes(x))
        energy = float(self.base[2] + self.unary[2] @ x) + self.flows.moved(x)[1]
        energy += self.idle_w * hop_s
        return np.array([self.serial_s(x) + hop_s, self.cloud_s(x), *held, energy])

    def waiting(self, of: Floats) -> float:
        """What a second of the step weighs at these multipliers of all quantities."""
        return float(of[Quantity.LATENCY] + self.idle_w * of[Quantity.ENERGY])

    @cached_property
    def counted(self) -> tuple[bool, bool]:
        """Whether weights count, on the edge and in the cloud."""
        return counted(self.limits)


def counted(limits: Limits) -> tuple[bool, bool]:
    """Whether weights count, on the edge and in the cloud."""
    edge = limits.edge_bytes is not None or limits.minimise is Quantity.EDGE_BYTES
    cloud = limits.cloud_bytes is not None or limits.minimise is Quantity.CLOUD_BYTES
    return edge, cloud


def only_cloud(size: int) -> Ints:
    """The assignment with nothing in the cloud but what must be."""
    x = np.zeros(size, dtype=np.int64)
    x[CLOUD] = 1
    return x


def make_core(graph: CostGraph, link: Link, limits: Limits) -> Core:
    """The core of a graph, one variable a task that is not pinned."""
    free = np.array([task.pinned is None for task in graph.tasks])
    in_cloud = np.array([task.pinned is Side.CLOUD for task in graph.tasks])
    of_task = np.where(free, np.cumsum(free) + 1, in_cloud.astype(np.int64))
    trips = np.array([graph.trips_of(index) for index in range(len(graph.tasks))])
    edge_s = trips * np.array([task.edge_s for task in graph.tasks])
    cloud_s = trips * np.array([task.cloud_s for task in graph.tasks])
    busy_w, idle_w = (graph.power.busy_w, graph.power.idle_w) if graph.power else (0.0, 0.0)
    used = _users(graph) if any(counted(limits)) else {}
    core = Core(
        len(graph.tasks),
        np.arange(len(graph.tasks)),
        np.array([edge_s.sum(), 0.0, busy_w * edge_s.sum()], dtype=np.float64),
        np.stack([cloud_s - edge_s, cloud_s, idle_w * cloud_s - busy_w * edge_s]),
        _nets(graph.flows, link, graph.power),
        _chains(graph, link),
        _sets(used.values()),
        np.array([graph.weights[weight] for weight in used], dtype=np.int64),
        limits,
        idle_w,
    )
    return relabel(core, of_task, int(of_task.max(initial=1)) + 1)


def relabel(core: Core, label: Ints, size: int) -> Core:
    """The core with variable v called `label[v]`; variables of one label become one.

    Exact: the price of an assignment to the labels is the price of the same assignment to the
    variables. What cannot cross any more is dropped, and what crosses together becomes one flow.
    """
    unary = np.zeros((len(core.unary), size))
    for row, of in zip(unary, core.unary, strict=True):
        np.add.at(row, label, of)
    base = core.base + unary[:, CLOUD]
    unary[:, [EDGE, CLOUD]] = 0.0
    users, nbytes = _merged_weights(core, label)
    return Core(
        size,
        label[core.of_task],
        base,
        unary,
        _merged_nets(core.flows, label),
        tuple(graph.relabel(label) for graph in core.chains),
        users,
        nbytes,
        core.limits,
        core.idle_w,
    )


def _merged_nets(flows: Nets, label: Ints) -> Nets:
    """Flows that still can cross, those with the same ends added up."""
    cost: dict[tuple[int, ...], list[float]] = {}
    producers = label[flows.producer].tolist()
    members, start = label[flows.consumers.members].tolist(), flows.consumers.start.tolist()
    costs = np.stack([flows.up, flows.down, flows.up_j, flows.down_j], axis=1).tolist()
    for index, producer in enumerate(producers):
        consumers = set(members[start[index] : start[index + 1]]) - {producer}
        if consumers:
            key = (producer, *sorted(consumers))
            known = cost.get(key)
            cost[key] = costs[index] if known is None else _added(known, costs[index])
    return Nets(
        np.array([key[0] for key in cost], dtype=np.int64),
        _sets([key[1:] for key in cost]),
        *np.array(list(cost.values())).reshape(-1, 4).T,
    )


def _added(one: list[float], other: list[float]) -> list[float]:
    return [here + there for here, there in zip(one, other, strict=True)]


def _merged_weights(core: Core, label: Ints) -> tuple[Sets, Ints]:
    """Weights that count on a side they may be on, those with the same users added up."""
    nbytes: dict[tuple[int, ...], int] = {}
    on_edge, in_cloud = core.counted
    members, start = label[core.users.members].tolist(), core.users.start.tolist()
    for index, size in enumerate(core.nbytes.tolist()):
        users = set(members[start[index] : start[index + 1]])
        if not on_edge:
            users = {CLOUD} if CLOUD in users else users - {EDGE}
        if not in_cloud:
            users = {EDGE} if EDGE in users else users - {CLOUD}
        if users >= {EDGE, CLOUD}:
            users = {EDGE, CLOUD}
        if users:
            key = tuple(sorted(users))
            nbytes[key] = nbytes.get(key, 0) + size
    return _sets(nbytes), np.array(list(nbytes.values()), dtype=np.int64)


def _users(graph: CostGraph) -> dict[int, list[int]]:
    users: dict[int, list[int]] = {}
    for index, task in enumerate(graph.tasks):
        for weight in task.weights:
            users.setdefault(weight, []).append(index)
    return users


def _nets(flows: Sequence[Flow], link: Link, power: Power | None) -> Nets:
    moved = [flow for flow in flows if flow.nbytes * flow.count > 0 and flow.consumers]
    both = (Side.EDGE, Side.CLOUD)
    up, down = ([flow.crossing_s(side, link) for flow in moved] for side in both)
    up_j, down_j = ([flow.crossing_j(side, link, power) for flow in moved] for side in both)
    return Nets(
        np.array([flow.producer for flow in moved], dtype=np.int64),
        _sets([flow.consumers for flow in moved]),
        np.array(up, dtype=np.float64),
        np.array(down, dtype=np.float64),
        np.array(up_j, dtype=np.float64),
        np.array(down_j, dtype=np.float64),
    )


def _sets(sets: Iterable[Sequence[int]]) -> Sets:
    kept = list(sets)
    start = np.cumsum([0, *(len(members) for members in kept)])
    return Sets(start, np.array([one for members in kept for one in members], dtype=np.int64))


def _chains(graph: CostGraph, link: Link) -> tuple[ChainGraph, ...]:
    """The chain graphs of `pricing.count_hops`; none if hops cost nothing.

    One for the first trips of all phases, and one for the later trips of every phase that has any.
    """
    if link.hop_s == 0:
        return ()
    count = len(graph.tasks)
    forward = [edge for edge in graph.dependencies if edge.when is not When.CARRIED]
    first = [edge.producer for edge in forward], [edge.consumer for edge in forward]
    chains = [_chain_graph(link.hop_s, *first, count)]
    for phase, trips in enumerate(graph.trips):
        if trips > 1:
            again = [
                edge
                for edge in graph.dependencies
                if graph.tasks[edge.consumer].phase == phase and edge.when is not When.INITIAL
            ]
            tails = [edge.producer + count * (edge.when is When.CARRIED) for edge in again]
            heads = [edge.consumer for edge in again]
            chains.append(_chain_graph((trips - 1) * link.hop_s, tails, heads, count))
    return tuple(chains)


def _chain_graph(rate: float, tails: list[int], heads: list[int], count: int) -> ChainGraph:
    """Number the nodes so that edges lead forward: what is from outside the trip comes first."""
    outside = sorted({node for node in tails if node >= count})
    inside = sorted({node for node in (*tails, *heads) if node < count})
    number = {node: index for index, node in enumerate((*outside, *inside))}
    return ChainGraph(
        rate,
        np.array([node % count for node in number], dtype=np.int64),
        np.array([number[node] for node in tails], dtype=np.int64),
        np.array([number[node] for node in heads], dtype=np.int64),
    )
