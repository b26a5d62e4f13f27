"""Minimum cut with real capacities, on OR-tools' maximum flow, which counts in 64-bit integers.

Capacities are rounded down to a grid of 2**-52 of what can flow at most. Rounding down keeps every
flow feasible, so its value is a lower bound on every cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from ortools.graph.python.max_flow import SimpleMaxFlow
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order

from vlacut.tensor.numerics import Floats, Ints

SOURCE, SINK = 0, 1
_GRID = 2.0**52
_ROUNDING = 2.0**10  # grid units: a residual this small is rounding, and counts as none


@dataclass(frozen=True)
class MinCut:
    """A minimum cut between node 0 and node 1, and the flow that proves it.

    Attributes:
        value: of the flow: no cut is lighter.
        sink_side: per node, 1 if it is on the sink's side. Of all minimum cuts this is the one
            with the fewest nodes on that side, which makes it unique.
        tail, head, residual: the arcs with what the flow leaves of their capacity, both directions.
            A cut weighs `value` plus the residual capacities of the arcs it cuts.
    """

    value: float
    sink_side: Ints
    tail: Ints
    head: Ints
    residual: Floats


def min_cut(size: int, tail: Ints, head: Ints, capacity: Floats) -> MinCut:
    """Separate node 0 (source) from node 1 (sink) of a graph of `size` nodes.

    Capacities are not negative; infinite ones are allowed but at the terminals. Arcs between the
    same two nodes add up.
    """
    unique, which = np.unique(tail * size + head, return_inverse=True)
    capacity = np.bincount(which, capacity, minlength=len(unique)).astype(np.float64)
    tail, head = unique // size, unique % size
    most = min(float(capacity[tail == SOURCE].sum()), float(capacity[head == SINK].sum()))
    if most == 0.0:
        return MinCut(0.0, _reaches_sink(tail, head, capacity > 0, size), tail, head, capacity)
    unit = most / _GRID
    whole = np.floor(np.minimum(capacity, most) / unit).astype(np.int64)
    network = SimpleMaxFlow()
    arcs = network.add_arcs_with_capacity(tail, head, whole)
    network.solve(SOURCE, SINK)
    flow = network.flows(arcs)
    both = np.concatenate([tail, head]), np.concatenate([head, tail])
    residual = np.concatenate([capacity - flow * unit, flow * unit])
    sink_side = _reaches_sink(*both, residual > _ROUNDING * unit, size)
    return MinCut(network.optimal_flow() * unit, sink_side, *both, residual)


def _reaches_sink(tail: Ints, head: Ints, is_open: NDArray[np.bool_], size: int) -> Ints:
    """Per node, 1 if open arcs lead from it to the sink."""
    ones = np.ones(int(is_open.sum()), dtype=np.int8)
    against = csr_array((ones, (head[is_open], tail[is_open])), shape=(size, size))
    reached = breadth_first_order(against, SINK, return_predecessors=False)
    side = np.zeros(size, dtype=np.int64)
    side[reached] = 1
    return side
