"""The search's own form of a `CostGraph`: variables instead of tasks, arrays instead of objects.

A *variable* is a group of tasks known to be on one side; its value is 1 in the cloud, 0 on the
edge. Variable 0 is the edge itself and variable 1 the cloud: what is pinned belongs to them.
Merging variables keeps the form, so every step of the search works on what the last one left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from vlacut.hardware import Side
from vlacut.tensor.numerics import Floats, Ints
from vlacut_passes.partitioning.limits import Limits, Quantity
from vlacut_passes.partitioning.solver.problem.chains import ChainGraph
from vlacut_passes.partitioning.solver.problem.nets import (
    Nets,
    Sets,
    distinct,
    merged_nets,
    pairs_of,
    summed,
)
from vlacut_passes.partitioning.solver.problem.pipes import Pipe
from vlacut_passes.partitioning.states import State

EDGE, CLOUD = 0, 1
LINEAR = (Quantity.LATENCY, Quantity.CLOUD_TIME, Quantity.ENERGY)  # rows of `base` and `unary`


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Find x in {0, 1}^size with x[0] = 0 and x[1] = 1 that minimises a quantity within limits.

    Compute is `base + unary @ x`, by `LINEAR` quantity. Latency and energy have flows and *peaks*
    on top, in seconds of the step: for every chain graph rate times the deepest chain of changes,
    for every pipe the longest stage. A second of the step costs the edge `idle_w` joules. A weight
    is held on a side where it has a user.

    Attributes:
        of_task: the variable of every task.
        base: by `LINEAR` quantity.
        unary: by `LINEAR` quantity and variable; zero for variables 0 and 1, which are in
            `base`.
        users: the variables that read each weight; without EDGE or CLOUD where what that side holds
            is neither limited nor minimised.
        nbytes, edge_nbytes: of each weight, as the cloud holds it, and the edge.
        rising: pairs of variables, low and high: x[low] <= x[high].
        limits: what is asked for.
        idle_w: watts of the edge while it waits.
    """

    size: int
    of_task: Ints
    base: Floats
    unary: Floats
    flows: Nets
    chains: tuple[ChainGraph, ...]
    pipes: tuple[Pipe, ...]
    users: Sets
    nbytes: Ints
    edge_nbytes: Ints
    rising: tuple[Ints, Ints]
    limits: Limits
    idle_w: float

    def of_tasks(self, tasks: Ints) -> Ints | None:
        """The assignment that gives these sides to the tasks; None if none does."""
        x = only_cloud(self.size)
        x[self.of_task] = tasks
        same = x[EDGE] == 0 and x[CLOUD] == 1 and (x[self.of_task] == tasks).all()
        return x if same and self.rises(x) else None

    def rises(self, x: Ints) -> bool:
        """Whether an assignment keeps `rising`."""
        low, high = self.rising
        return bool((x[low] <= x[high]).all())

    def raised(self, x: Ints) -> Ints:
        """The assignment with what must be in the cloud with what is there."""
        there = np.flatnonzero(x)
        tail = np.concatenate([self.rising[0], np.full(len(there), CLOUD)])
        head = np.concatenate([self.rising[1], there])
        ones = np.ones(len(tail), dtype=np.int8)
        leads = csr_array((ones, (tail, head)), shape=(self.size, self.size))
        raised = np.zeros_like(x)
        raised[breadth_first_order(leads, CLOUD, return_predecessors=False)] = 1
        raised[EDGE] = 0
        return raised

    def serial_s(self, x: Ints) -> float:
        """Compute and transfers, without peaks."""
        return float(self.base[0] + self.unary[0] @ x + self.flows.moved(x)[0])

    def peak_s(self, x: Ints) -> float:
        """Hops, and the longest stages of pipes."""
        hop_s = sum(chain.rate * chain.deepest(x).depth for chain in self.chains)
        return hop_s + sum(float(pipe.stages(x).max()) for pipe in self.pipes)

    def cloud_s(self, x: Ints) -> float:
        """Compute in the cloud."""
        return float(self.base[1] + self.unary[1] @ x)

    def cloud_bytes(self, x: Ints) -> int:
        """Bytes of the weights with a user in the cloud."""
        return int(self.nbytes @ self.users.highest(x))

    def edge_bytes(self, x: Ints) -> int:
        """Bytes of the weights with a user on the edge."""
        return int(self.edge_nbytes @ (1 - self.users.lowest(x)))

    def quantities(self, x: Ints, peak_s: float) -> Floats:
        """All quantities of an assignment with these peaks, by `Quantity`."""
        held = (self.cloud_bytes(x), self.edge_bytes(x))
        energy = float(self.base[2] + self.unary[2] @ x) + self.flows.moved(x)[1]
        energy += self.idle_w * peak_s
        return np.array([self.serial_s(x) + peak_s, self.cloud_s(x), *held, energy])

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


def within_limits(problem: Problem, limits: Limits) -> Problem:
    """A problem with these limits and the weights that count for them."""
    users, (nbytes, edge) = _merged_weights(problem, np.arange(problem.size), *counted(limits))
    return replace(problem, users=users, nbytes=nbytes, edge_nbytes=edge, limits=limits)


def relabel(problem: Problem, label: Ints, size: int, *, whole: bool = False) -> Problem:
    """The problem with variable v called `label[v]`; variables of one label become one.

    Exact: the price of an assignment to the labels is the price of the same assignment to the
    variables. What cannot cross any more is dropped, and what crosses together becomes one flow.
    A problem that is to get its limits yet is left `whole`: all weights, and chain graphs unshrunk.
    """
    unary = np.stack([summed(label, of, size) for of in problem.unary])
    base = problem.base + unary[:, CLOUD]
    unary[:, [EDGE, CLOUD]] = 0.0
    which = (True, True) if whole else problem.counted
    users, (nbytes, edge_nbytes) = _merged_weights(problem, label, *which)
    return Problem(
        size=size,
        of_task=label[problem.of_task],
        base=base,
        unary=unary,
        flows=merged_nets(problem.flows, label),
        chains=tuple(
            (graph.renamed if whole else graph.relabel)(label) for graph in problem.chains
        ),
        pipes=tuple(pipe.relabel(label, size) for pipe in problem.pipes),
        users=users,
        nbytes=nbytes,
        edge_nbytes=edge_nbytes,
        rising=_rising(label[problem.rising[0]], label[problem.rising[1]]),
        limits=problem.limits,
        idle_w=problem.idle_w,
    )


def holding(problem: Problem, x: Ints) -> Problem:
    """The problem of the assignments that hold no weight on a limited side where this one does not:
    they keep its limits on weights, so it has none.
    """
    limits, label = problem.limits, np.arange(problem.size)
    users, owner = problem.users.members, problem.users.owner
    if limits.cloud_bytes is not None:
        label[users[(problem.users.highest(x) == 0)[owner]]] = EDGE
    if limits.edge_bytes is not None:
        label[users[(problem.users.lowest(x) == 1)[owner]]] = CLOUD
    limits = replace(limits, cloud_bytes=None, edge_bytes=None)
    label = np.unique(label, return_inverse=True)[1].astype(np.int64)
    return within_limits(relabel(problem, label, int(label.max()) + 1), limits)


def settled(size: int, rising: tuple[Ints, Ints]) -> Ints | None:
    """A label for every variable, one label for those that are equal wherever x[low] <= x[high];
    None if edge and cloud are. Labels 0 and 1 are edge and cloud, the others follow the order of
    the variables.
    """
    every = np.arange(size)
    tail = np.concatenate([rising[0], every, np.full(size, EDGE)])
    head = np.concatenate([rising[1], np.full(size, CLOUD), every])
    implies = csr_array((np.ones(len(tail), dtype=np.int8), (tail, head)), shape=(size, size))
    _, group = connected_components(implies, connection="strong")
    if group[EDGE] == group[CLOUD]:
        return None
    first = np.full(size, size)
    np.minimum.at(first, group, every)
    return np.unique(first[group], return_inverse=True)[1].astype(np.int64)


def _rising(low: Ints, high: Ints) -> tuple[Ints, Ints]:
    """Pairs that say anything, once."""
    kept = (low != high) & (low != EDGE) & (high != CLOUD)
    pairs = np.unique(np.stack([low[kept], high[kept]]), axis=1)
    return pairs[0], pairs[1]


def _merged_weights(
    problem: Problem, label: Ints, on_edge: bool, in_cloud: bool
) -> tuple[Sets, tuple[Ints, Ints]]:
    """Weights that count on a side they may be on, those with the same users added up, as the cloud
    holds them and as the edge does.
    """
    count = len(problem.nbytes)
    owner, member = pairs_of(problem.users, label)
    at_edge, at_cloud = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    at_edge[owner[member == EDGE]] = True
    at_cloud[owner[member == CLOUD]] = True
    kept = np.full(len(member), on_edge or in_cloud)
    if not on_edge:
        kept &= np.where(at_cloud[owner], member == CLOUD, member != EDGE)
    if not in_cloud:
        kept &= np.where(at_edge[owner], member == EDGE, member != CLOUD)
    kept &= ~(at_edge & at_cloud)[owner] | (member <= CLOUD)
    first, which, users = distinct(np.zeros(count, dtype=np.int64), owner[kept], member[kept])
    merged = np.zeros((2, len(first)), dtype=np.int64)
    for row, each in zip(merged, (problem.nbytes, problem.edge_nbytes), strict=True):
        np.add.at(row, which[which >= 0], each[which >= 0])
    return users, (merged[0], merged[1])


def placed(problem: Problem, chosen: tuple[State, ...]) -> Problem | None:
    """The problem with the tasks of these states on their sides.

    None if no assignment has them so.
    """
    if not any(state.sides for state in chosen):
        return problem
    sides = [(problem.of_task[task], side) for state in chosen for task, side in state.sides]
    low = [CLOUD if side is Side.CLOUD else variable for variable, side in sides]
    high = [variable if side is Side.CLOUD else EDGE for variable, side in sides]
    rising = (np.array([*problem.rising[0], *low]), np.array([*problem.rising[1], *high]))
    label = settled(problem.size, (rising[0].astype(np.int64), rising[1].astype(np.int64)))
    return None if label is None else relabel(problem, label, int(label.max()) + 1, whole=True)
