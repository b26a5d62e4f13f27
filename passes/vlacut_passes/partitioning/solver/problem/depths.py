"""What is known of assignments whose deepest chain in a chain graph is at most so deep."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from vlacut.tensor.numerics import Ints
from vlacut_passes.partitioning.solver.problem.chains import ChainGraph

NO_LIMIT = 2**31


class Span(NamedTuple):
    """The depths that the deepest chain of a chain graph may have, both included."""

    low: int = 0
    high: int = NO_LIMIT


def step(graph: ChainGraph) -> int:
    """2 where depths are even, for every chain can be extended to start and end in one variable."""
    starts = np.setdiff1d(graph.tail, graph.head)
    ends = np.setdiff1d(graph.head, graph.tail)
    outermost = graph.variable[np.concatenate([starts, ends])]
    return 2 if len(outermost) and (outermost == outermost[0]).all() else 1


def equal_within(graph: ChainGraph, size: int, high: int) -> Ints:
    """A label for every variable, one label for those that are equal in all assignments at most
    `high` deep. Labels keep the order of the variables.

    At depth 0, all that is connected is equal. At depth 1, all that is on a path from a variable
    back to itself is: such a path has an even number of changes.
    """
    label = np.arange(size)
    if high == 0:
        ends = graph.variable[graph.tail], graph.variable[graph.head]
        links = csr_array((np.ones(len(graph.tail), dtype=np.int8), ends), shape=(size, size))
        return _ordered(connected_components(links, directed=False)[1])
    while high == 1:
        merged = _on_circles(graph, label)
        if merged.max() == label.max():
            break
        label = merged
    return label


def _on_circles(graph: ChainGraph, label: Ints) -> Ints:
    """The labels with all that is on paths from a label back to it merged into it."""
    variable = label[graph.variable]
    nodes, count = np.unique(variable, return_counts=True)
    tails, heads = [graph.tail], [graph.head]
    size = len(variable)
    for one in nodes[count > 1].tolist():
        mine = np.flatnonzero(variable == one)
        between = np.intersect1d(_reached(graph.tail, graph.head, mine, size),
                                 _reached(graph.head, graph.tail, mine, size))  # fmt: skip
        tails.append(np.full(len(between), mine[0]))
        heads.append(between)
    equal = np.concatenate(tails[1:] or [heads[0][:0]]), np.concatenate(heads[1:] or [heads[0][:0]])
    count_of = int(label.max()) + 1
    pairs = variable[equal[0]], variable[equal[1]]
    links = csr_array((np.ones(len(pairs[0]), dtype=np.int8), pairs), shape=(count_of, count_of))
    return _ordered(connected_components(links, directed=False)[1])[label]


def _reached(tail: Ints, head: Ints, start: Ints, size: int) -> Ints:
    """The nodes that are reached from some nodes."""
    tails = np.concatenate([tail, np.full(len(start), size)])
    heads = np.concatenate([head, start])
    links = csr_array((np.ones(len(tails), dtype=np.int8), (tails, heads)), shape=(size + 1,) * 2)
    return np.asarray(breadth_first_order(links, size, return_predecessors=False)[1:])


def _ordered(group: Ints) -> Ints:
    """Groups numbered by their first member."""
    first = np.full(len(group), len(group))
    np.minimum.at(first, group, np.arange(len(group)))
    return np.unique(first[group], return_inverse=True)[1].astype(np.int64)
