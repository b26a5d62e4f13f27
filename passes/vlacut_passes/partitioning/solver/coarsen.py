"""Contraction of a problem: no assignment cheaper than the incumbent is lost.

Reduced costs. Let a relaxation be solved by a minimum cut with its flow, and let x be any feasible
assignment. Its price is at least its weight in the relaxation, which is the bound plus the residual
capacities of the arcs that x cuts. So if x cuts an arc a -> b (x_a = 0, x_b = 1) with a residual
above the gap between incumbent and bound, x is dearer than the incumbent. Hence for all others

    x_a = 0 implies x_b = 0 along every such arc, of any relaxation,
    x_v = 0 implies x_edge = 0, and x_cloud = 0 implies x_v = 0, since x_edge = 0 and x_cloud = 1,

and variables that imply one another in a circle are equal: they become one.

Bytes. A variable whose weights, added to what a side must hold anyway, exceed that side's limit is
on the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from vlacut.tensor.numerics import Ints
from vlacut_passes.partitioning.solver.problem.problem import CLOUD, EDGE, Problem, only_cloud
from vlacut_passes.partitioning.solver.relaxation import Relaxed


def equal_variables(
    problem: Problem,
    solved: Sequence[Relaxed],
    value: float,
    forced: Sequence[tuple[int, int]] = (),
) -> Ints | None:
    """A label for every variable, one label for those that are equal in all that has less of the
    objective than `value` and does not cut the arcs `forced`; None if nothing is.

    Labels 0 and 1 are edge and cloud, the others follow the order of the variables.
    """
    variables = np.arange(problem.size)
    tails = [variables, np.full(problem.size, CLOUD)]
    heads = [np.full(problem.size, EDGE), variables]
    for relaxed in solved:
        heavy = relaxed.cut.residual > value - relaxed.bound
        tails.append(relaxed.cut.tail[heavy])
        heads.append(relaxed.cut.head[heavy])
    if forced:
        tails.append(np.array([tail for tail, _ in forced]))
        heads.append(np.array([head for _, head in forced]))
    tail, head = np.concatenate(tails), np.concatenate(heads)
    size = len(solved[0].cut.sink_side)
    implies = csr_array((np.ones(len(tail), dtype=np.int8), (tail, head)), shape=(size, size))
    _, group = connected_components(implies, connection="strong")
    if group[EDGE] == group[CLOUD]:
        return None
    first = np.full(size, size)
    np.minimum.at(first, group[: problem.size], variables)
    _, label = np.unique(first[group[: problem.size]], return_inverse=True)
    return label.astype(np.int64)


def too_heavy(problem: Problem) -> Ints | None:
    """Labels that put on one side what the other cannot hold by itself; None if all fits.

    What is on a side already must fit there.
    """
    limits, variables = problem.limits, np.arange(problem.size)
    cloudless = only_cloud(problem.size)
    label = variables.copy()
    if limits.cloud_bytes is not None:
        needs = _needs(problem, problem.nbytes, problem.users.highest(cloudless) == 1)
        label[needs > limits.cloud_bytes - problem.cloud_bytes(cloudless)] = EDGE
    if limits.edge_bytes is not None:
        edgeless = (variables != EDGE).astype(np.int64)
        needs = _needs(problem, problem.edge_nbytes, problem.users.lowest(edgeless) == 0)
        label[(needs > limits.edge_bytes - problem.edge_bytes(edgeless)) & (label != EDGE)] = CLOUD
    label[EDGE], label[CLOUD] = EDGE, CLOUD
    if (label == variables).all():
        return None
    return np.unique(label, return_inverse=True)[1].astype(np.int64)


def _needs(problem: Problem, held: Ints, held_anyway: NDArray[np.bool_]) -> Ints:
    """Per variable, the bytes of the weights it reads that are not held anyway."""
    nbytes = np.where(held_anyway, 0, held)
    needs = np.zeros(problem.size, dtype=np.int64)
    np.add.at(needs, problem.users.members, nbytes[problem.users.owner])
    return needs
