"""The search's own form of a `CostGraph`: variables instead of tasks, arrays instead of objects.

A *variable* is a group of tasks known to be on one side; its value is 1 in the cloud, 0 on the
edge. Variable 0 is the edge itself and variable 1 the cloud: what is pinned belongs to them.
Merging variables keeps the form, so every step of the search works on what the last one left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vlacut.columns import FREE, Columns
from vlacut.cost_graph import CostGraph
from vlacut.hardware import Link, Power
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

    def of_tasks(self, tasks: Ints) -> Ints | None:
        """The assignment that gives these sides to the tasks; None if none does."""
        x = only_cloud(self.size)
        x[self.of_task] = tasks
        return x if x[EDGE] == 0 and x[CLOUD] == 1 and (x[self.of_task] == tasks).all() else None

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


def make_core(graph: CostGraph, link: Link) -> Core:
    """The core of a graph without limits, a variable a task that is not pinned. Nothing overlaps
    in it.
    """
    columns, free = graph.columns, graph.columns.pinned == FREE
    of_task = np.where(free, np.cumsum(free) + 1, columns.pinned)
    busy_w, idle_w = (graph.power.busy_w, graph.power.idle_w) if graph.power else (0.0, 0.0)
    edge_s, cloud_s = columns.edge_s, columns.cloud_s
    order = np.argsort(columns.read, kind="stable")
    core = Core(
        len(graph.tasks),
        np.arange(len(graph.tasks)),
        np.array([edge_s.sum(), 0.0, busy_w * edge_s.sum()], dtype=np.float64),
        np.stack([cloud_s - edge_s, cloud_s, idle_w * cloud_s - busy_w * edge_s]),
        _nets(columns, link, graph.power),
        _chains(columns, link),
        Sets(_starts(columns.read[order], len(columns.weights)), columns.reader[order]),
        columns.weights,
        Limits(),
        idle_w,
    )
    return relabel(core, of_task, int(of_task.max(initial=1)) + 1, whole=True)


def within_limits(core: Core, limits: Limits) -> Core:
    """A core with these limits and the weights that count for them."""
    users, nbytes = _merged_weights(core, np.arange(core.size), *counted(limits))
    return replace(core, users=users, nbytes=nbytes, limits=limits)


def relabel(core: Core, label: Ints, size: int, *, whole: bool = False) -> Core:
    """The core with variable v called `label[v]`; variables of one label become one.

    Exact: the price of an assignment to the labels is the price of the same assignment to the
    variables. What cannot cross any more is dropped, and what crosses together becomes one flow.
    A core that is to get its limits yet is left `whole`: all weights, and chain graphs unshrunk.
    """
    unary = np.stack([_summed(label, of, size) for of in core.unary])
    base = core.base + unary[:, CLOUD]
    unary[:, [EDGE, CLOUD]] = 0.0
    users, nbytes = _merged_weights(core, label, *((True, True) if whole else core.counted))
    return Core(
        size,
        label[core.of_task],
        base,
        unary,
        _merged_nets(core.flows, label),
        tuple((graph.renamed if whole else graph.relabel)(label) for graph in core.chains),
        users,
        nbytes,
        core.limits,
        core.idle_w,
    )


def _summed(label: Ints, amount: Floats, size: int) -> Floats:
    """What the amounts of every label add up to."""
    return np.asarray(np.bincount(label, amount, size), dtype=np.float64)


def _merged_nets(flows: Nets, label: Ints) -> Nets:
    """Flows that still can cross, those with the same ends added up."""
    producer = label[flows.producer]
    owner, member = _pairs(flows.consumers, label)
    away = member != producer[owner]
    first, which, consumers = _distinct(producer, owner[away], member[away])
    costs = (flows.up, flows.down, flows.up_j, flows.down_j)
    added = (_summed(which[which >= 0], cost[which >= 0], len(first)) for cost in costs)
    return Nets(producer[first], consumers, *added)


def _merged_weights(core: Core, label: Ints, on_edge: bool, in_cloud: bool) -> tuple[Sets, Ints]:
    """Weights that count on a side they may be on, those with the same users added up."""
    count = len(core.nbytes)
    owner, member = _pairs(core.users, label)
    at_edge, at_cloud = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    at_edge[owner[member == EDGE]] = True
    at_cloud[owner[member == CLOUD]] = True
    kept = np.full(len(member), on_edge or in_cloud)
    if not on_edge:
        kept &= np.where(at_cloud[owner], member == CLOUD, member != EDGE)
    if not in_cloud:
        kept &= np.where(at_edge[owner], member == EDGE, member != CLOUD)
    kept &= ~(at_edge & at_cloud)[owner] | (member <= CLOUD)
    first, which, users = _distinct(np.zeros(count, dtype=np.int64), owner[kept], member[kept])
    nbytes = np.zeros(len(first), dtype=np.int64)
    np.add.at(nbytes, which[which >= 0], core.nbytes[which >= 0])
    return users, nbytes


def _pairs(sets: Sets, label: Ints) -> tuple[Ints, Ints]:
    """Every set and every label in it, once, sorted."""
    size = int(label.max(initial=0)) + 1
    pairs = np.unique(sets.owner * size + label[sets.members])
    return pairs // size, pairs % size


def _distinct(key: Ints, owner: Ints, member: Ints) -> tuple[Ints, Ints, Sets]:
    """Sets that are not empty, those with equal keys and equal members once.

    Owners and members are sorted pairs, keys one a set. Returns the first set of each kind; the
    kind of every set, -1 if it is empty; and the kinds.
    """
    count, start = np.bincount(owner, minlength=len(key)), _starts(owner, len(key))
    which = np.full(len(key), -1)
    firsts = [np.zeros(0, dtype=np.int64)]
    for size in np.unique(count[count > 0]).tolist():
        rows = np.flatnonzero(count == size)
        ends = np.column_stack([key[rows], member[start[rows][:, None] + np.arange(size)]])
        order = np.lexsort(ends.T)
        new = np.concatenate([[True], (np.diff(ends[order], axis=0) != 0).any(axis=1)])
        which[rows[order]] = sum(map(len, firsts)) + np.cumsum(new) - 1
        firsts.append(rows[order][new])
    first = np.concatenate(firsts)
    sizes = count[first]
    place = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    members = member[np.repeat(start[first], sizes) + place]
    return first, which, Sets(np.concatenate([[0], np.cumsum(sizes)]), members)


def _starts(owner: Ints, count: int) -> Ints:
    """Where the members of every set start, and where they end, the owners being sorted."""
    return np.searchsorted(owner, np.arange(count + 1)).astype(np.int64)


def _nets(columns: Columns, link: Link, power: Power | None) -> Nets:
    sizes = np.diff(columns.start)
    moved = (columns.nbytes * columns.count > 0) & (sizes > 0)
    costs: list[Floats] = []
    radio = (power.up_j_per_byte, power.down_j_per_byte) if power else (0.0, 0.0)
    for coded, rate, per_byte in zip(
        (columns.up, columns.down), (link.up, link.down), radio, strict=True
    ):
        seconds = columns.crossing_s(coded, rate)
        joules = np.zeros(len(seconds))
        if power is not None:
            worked_j = (power.busy_w - power.idle_w) * coded.edge_s + per_byte * coded.nbytes
            joules = power.idle_w * seconds + worked_j * columns.count
        costs += [seconds[moved], joules[moved]]
    start = np.concatenate([[0], np.cumsum(sizes[moved])])
    consumers = Sets(start, columns.consumers[moved[columns.owner]])
    up, up_j, down, down_j = costs
    return Nets(columns.producer[moved], consumers, up, down, up_j, down_j)


def _chains(columns: Columns, link: Link) -> tuple[ChainGraph, ...]:
    """The chain graphs of what hops count; none if hops cost nothing."""
    if link.hop_s == 0:
        return ()
    count = len(columns.phase)
    return tuple(
        _chain_graph(times * link.hop_s, tail, head, count) for times, tail, head in columns.waits
    )


def _chain_graph(rate: float, tail: Ints, head: Ints, count: int) -> ChainGraph:
    """Number the nodes so that edges lead forward: what is from outside the trip comes first."""
    nodes = np.unique(np.concatenate([tail, head]))
    nodes = np.concatenate([nodes[nodes >= count], nodes[nodes < count]])
    number = np.zeros(2 * count, dtype=np.int64)
    number[nodes] = np.arange(len(nodes))
    return ChainGraph(rate, nodes % count, number[tail], number[head], count)
