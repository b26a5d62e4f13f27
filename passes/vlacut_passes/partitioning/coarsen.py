"""Contraction of a core: no assignment cheaper than the incumbent is lost.

Reduced costs. Let a relaxation be solved by a minimum cut with its flow, and let x be any feasible
assignment. Its price is at least its weight in the relaxation, which is the bound plus the residual
capacities of the arcs that x cuts. So if x cuts an arc a -> b (x_a = 0, x_b = 1) with a residual
above the gap between incumbent and bound, x is dearer than the incumbent. Hence for all others

    x_a = 0 implies x_b = 0 along every such arc, of any relaxation,
    x_v = 0 implies x_edge = 0, and x_cloud = 0 implies x_v = 0, since x_edge = 0 and x_cloud = 1,

and variables that imply one another in a circle are equal: they become one.

Bytes. A variable whose weights, added to what the cloud must hold anyway, exceed the budget is on
the edge.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from vlacut_passes.partitioning.core import CLOUD, EDGE, Core, Ints
from vlacut_passes.partitioning.dual import only_cloud
from vlacut_passes.partitioning.relaxation import Relaxed


def equal_variables(
    core: Core,
    solved: Sequence[Relaxed],
    price_s: float,
    forced: tuple[int, int] | None = None,
) -> Ints | None:
    """A label for every variable, one label for those that are equal in all that is cheaper than
    `price_s` and does not cut the arc `forced`; None if nothing is. Labels 0 and 1 are edge and
    cloud, the others follow the order of the variables.
    """
    variables = np.arange(core.size)
    tails = [variables, np.full(core.size, CLOUD)]
    heads = [np.full(core.size, EDGE), variables]
    for found in solved:
        heavy = found.cut.residual > price_s - found.bound
        tails.append(found.cut.tail[heavy])
        heads.append(found.cut.head[heavy])
    if forced is not None:
        tails.append(np.array([forced[0]]))
        heads.append(np.array([forced[1]]))
    tail, head = np.concatenate(tails), np.concatenate(heads)
    size = len(solved[0].cut.sink_side)
    implies = csr_array((np.ones(len(tail), dtype=np.int8), (tail, head)), shape=(size, size))
    _, group = connected_components(implies, connection="strong")
    if group[EDGE] == group[CLOUD]:
        return None
    first = np.full(size, size)
    np.minimum.at(first, group[: core.size], variables)
    _, label = np.unique(first[group[: core.size]], return_inverse=True)
    return label.astype(np.int64)


def too_heavy(core: Core) -> Ints | None:
    """Labels that put on the edge what does not fit into the budget by itself; None if all fits.

    The core's cloud must fit.
    """
    if core.budget is None:
        return None
    room = core.budget - core.cloud_bytes(only_cloud(core.size))
    held_anyway = core.users.highest(only_cloud(core.size)) == 1
    nbytes = np.where(held_anyway, 0, core.nbytes)
    needs = np.zeros(core.size, dtype=np.int64)
    np.add.at(needs, core.users.members, nbytes[core.users.owner])
    heavy = needs > room
    heavy[CLOUD] = False
    if not heavy.any():
        return None
    label = np.where(heavy, EDGE, np.cumsum(~heavy) - 1)
    return label.astype(np.int64)
