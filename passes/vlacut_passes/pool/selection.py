"""Selection: which candidates to keep, so that a step is fastest in expectation.

A step takes the time of the best variant at its bandwidth; a weight is doubled if a variant holds
it where the chosen cut does not. Minimising the expectation within the room for doubled weights is
a facility location problem over a shared inventory, and goes to HiGHS: with s shares, t prices,

    minimise    sum over p, v of s[p] t[p, v] x[p, v]
    subject to  sum over v of x[p, v] = 1       every bandwidth p has its variant v
                x[p, v] <= y[v]                 which is kept
                y[v] <= d[w]                    with its weights doubled
                sum over w of bytes[w] d[w] <= room,  y integer, x and d in [0, 1]

and y = 1 for the chosen cut. With y integer, x and d are at an optimum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from vlacut.errors import PassError
from vlacut.hardware import Bandwidths, Side
from vlacut.pricing.cost_graph import CostGraph
from vlacut.tensor.numerics import Floats
from vlacut_passes.pool.candidate import Candidate

_WORTH = 1e-6  # of the latency: a variant that gains less is not worth its engines


def select(
    graph: CostGraph,
    chosen: Candidate,
    others: Sequence[Candidate],
    bandwidths: Bandwidths,
    room: int,
) -> list[Candidate]:
    """The candidates to keep beside the chosen cut, the best at high bandwidth first.

    Only those that are the best at some bandwidth of the distribution, by more than a millionth.
    """
    if not others:
        return []
    points, shares = np.array(bandwidths.seconds_per_byte), np.array(bandwidths.shares)
    prices = np.array([one.at(points) for one in (chosen, *others)]).T
    kept = _solve(prices * shares[:, None], *_doubled(graph, chosen, others), room)
    best = np.argmin(np.where(kept, prices, np.inf), axis=1)
    gains = prices[:, 0] - prices[np.arange(len(points)), best] > _WORTH * prices[:, 0]
    return [others[number - 1] for number in dict.fromkeys(best[gains].tolist())]


def _doubled(
    graph: CostGraph, chosen: Candidate, others: Sequence[Candidate]
) -> tuple[list[tuple[int, int]], list[int]]:
    """Pairs of a candidate (from 1) and an item it doubles, and the bytes of the items.

    An item is a set of weights that the same candidates double on the same side.
    """
    users: dict[tuple[int, bool], list[int]] = {}
    for number, one in enumerate(others, start=1):
        for weight in sorted(one.edge - chosen.edge):
            users.setdefault((weight, False), []).append(number)
        for weight in sorted(one.cloud - chosen.cloud):
            users.setdefault((weight, True), []).append(number)
    items: dict[tuple[int, ...], int] = {}
    for (weight, in_cloud), numbers in users.items():
        nbytes = graph.bytes_on(Side.CLOUD if in_cloud else Side.EDGE)[weight]
        items[tuple(numbers)] = items.get(tuple(numbers), 0) + nbytes
    pairs = [(number, item) for item, numbers in enumerate(items) for number in numbers]
    return pairs, list(items.values())


def _solve(
    costs: Floats, pairs: Sequence[tuple[int, int]], nbytes: Sequence[int], room: int
) -> NDArray[np.bool_]:
    """Which candidates are kept. Variables: x by bandwidth and candidate, then y, then d.

    HiGHS keeps the room to its tolerance only. A set that exceeds it after all is cut off by name,
    and HiGHS asked again.
    """
    points, count = costs.shape
    kept, doubled = points * count, points * count + count
    size = doubled + len(nbytes)
    left = [*range(kept), *(kept + number for number, _ in pairs)]
    right = [*(kept + np.tile(np.arange(count), points)), *(doubled + item for _, item in pairs)]
    rows, ones = np.arange(len(left)), np.ones(len(left))
    implied = sparse.csr_array((ones, (rows, left)), (len(left), size))
    implied = implied - sparse.csr_array((ones, (rows, right)), (len(left), size))
    served = (np.ones(kept), (np.repeat(np.arange(points), count), np.arange(kept)))
    used = np.concatenate([np.zeros(doubled), np.array(nbytes, dtype=float) / max(room, 1)])
    constraints = [
        LinearConstraint(sparse.csr_array(served, (points, size)), 1, 1),
        LinearConstraint(implied, -np.inf, 0),
        LinearConstraint(used[None, :], -np.inf, min(room, 1)),
    ]
    lower = np.zeros(size)
    lower[kept] = 1
    while True:
        result = milp(
            np.concatenate([costs.ravel() / costs[:, 0].sum(), np.zeros(size - kept)]),
            integrality=np.concatenate([np.zeros(kept), np.ones(count), np.zeros(len(nbytes))]),
            bounds=Bounds(lower, 1),
            constraints=constraints,
            options={"mip_rel_gap": 1e-9},
        )
        if result.x is None:
            raise PassError(f"HiGHS found no pool: {result.message}")
        found = np.asarray(result.x[kept:doubled] > 0.5)
        items = {item for number, item in pairs if found[number]}
        if sum(nbytes[item] for item in items) <= room:
            return found
        cover = np.zeros(size)
        cover[kept:doubled] = found
        constraints.append(LinearConstraint(cover[None, :], -np.inf, found.sum() - 1))
