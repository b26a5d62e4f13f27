"""Minimum cut with real capacities, on scipy's maximum flow, which counts in 32-bit integers.

The flow is found in rounds: each rounds the residual capacities down to a grid, as fine as 32 bits
allow for what the flow can still grow by, and adds the flow found there. Rounding down keeps every
flow feasible, so its value is a lower bound on every cut, whatever the round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
SOURCE, SINK = 0, 1
_GRID = 2.0**30
_ROUNDS = 6


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
    row, column, residual = _with_reverse(size, tail, head, capacity)
    start = np.searchsorted(row, np.arange(size + 1)).astype(np.int32)
    column32 = column.astype(np.int32)
    out, into = row == SOURCE, column == SINK
    most = min(float(residual[out].sum()), float(residual[into].sum()))
    noise = 1e-15 * most
    limit, value = most, 0.0
    for _ in range(_ROUNDS):
        if limit <= noise:
            break
        unit = limit / _GRID
        grid = np.floor(np.minimum(residual, limit) / unit).astype(np.int32)
        found = maximum_flow(csr_array((grid, column32, start), shape=(size, size)), SOURCE, SINK)
        residual = np.maximum(residual - found.flow.data * unit, 0.0)
        value += float(found.flow_value) * unit
        sink_side = _reaches_sink(row, column, residual > unit, size)
        limit = float(residual[(sink_side[row] == 0) & (sink_side[column] == 1)].sum())
    sink_side = _reaches_sink(row, column, residual > 1e-13 * most, size)
    return MinCut(value, sink_side, row, column, residual)


def _with_reverse(size: int, tail: Ints, head: Ints, capacity: Floats) -> tuple[Ints, Ints, Floats]:
    """Arcs sorted by tail and head, one a pair of nodes, each with its reverse."""
    key = np.concatenate([tail * size + head, head * size + tail])
    both = np.concatenate([capacity, np.zeros(len(capacity))])
    unique, which = np.unique(key, return_inverse=True)
    joined = np.bincount(which, both, minlength=len(unique)).astype(np.float64)
    return unique // size, unique % size, joined


def _reaches_sink(row: Ints, column: Ints, is_open: NDArray[np.bool_], size: int) -> Ints:
    """Per node, 1 if open arcs lead from it to the sink."""
    ones = np.ones(int(is_open.sum()), dtype=np.int8)
    against = csr_array((ones, (column[is_open], row[is_open])), shape=(size, size))
    reached = breadth_first_order(against, SINK, return_predecessors=False)
    side = np.zeros(size, dtype=np.int64)
    side[reached] = 1
    return side
