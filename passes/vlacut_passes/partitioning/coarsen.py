"""Contraction of a core by reduced costs: no assignment cheaper than the incumbent is lost.

Let `cut` be the minimum cut of a relaxation, with its flow, and let x be any feasible assignment.
Its price is at least its weight in the relaxation, which is the bound plus the residual capacities
of the arcs that x cuts. So if x cuts an arc a -> b (x_a = 0, x_b = 1) with a residual above the gap
between incumbent and bound, x is dearer than the incumbent. Hence for all others

    x_a = 0 implies x_b = 0 along every such arc,
    x_v = 0 implies x_edge = 0, and x_cloud = 0 implies x_v = 0, since x_edge = 0 and x_cloud = 1,

and variables that imply one another in a circle are equal: they become one.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from vlacut_passes.partitioning.core import CLOUD, EDGE, Core, Ints
from vlacut_passes.partitioning.mincut import MinCut


def equal_variables(core: Core, cut: MinCut, gap_s: float) -> Ints | None:
    """A label for every variable, one label for those that are equal in all that costs less than
    the cut's bound plus `gap_s`; None if nothing does. Labels 0 and 1 are edge and cloud.
    """
    heavy = cut.residual > gap_s
    variables = np.arange(core.size)
    tail = np.concatenate([cut.tail[heavy], variables, np.full(core.size, CLOUD)])
    head = np.concatenate([cut.head[heavy], np.full(core.size, EDGE), variables])
    size = len(cut.sink_side)
    implies = csr_array((np.ones(len(tail), dtype=np.int8), (tail, head)), shape=(size, size))
    _, group = connected_components(implies, connection="strong")
    if group[EDGE] == group[CLOUD]:
        return None
    first = np.full(size, size)
    np.minimum.at(first, group[: core.size], variables)  # groups by their first variable: stable
    _, label = np.unique(first[group[: core.size]], return_inverse=True)
    return label.astype(np.int64)
