"""Other ways to cut, on the same graph and the same price.

| name            | its cut                                                                    |
|-----------------|----------------------------------------------------------------------------|
| `all-edge`      | everything that may be on the edge is                                      |
| `all-cloud`     | everything that may be in the cloud is; the observation is sent as it is    |
| `roboecc`       | a suffix of the layers: RoboECC's algorithm 1                              |
| `neurosurgeon`  | a suffix of the layers: the cheapest, transfers and hops included          |
| `fixed-half`    | a suffix of the layers: half of the weights                                |

Sources: RoboECC, section IV-A.3; Kang et al., Neurosurgeon, ASPLOS 2017, figure 9.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from vlacut.hardware import Link
from vlacut.pricing import CostGraph, Side, Strategy, price
from vlacut_passes.partitioning.layer_chain import layer_chain
from vlacut_passes.partitioning.limits import Limits

Sides = tuple[Side, ...]
Cutter = Callable[[CostGraph, Link, "int | None"], Sides]


def all_edge(graph: CostGraph, link: Link, budget: int | None) -> Sides:
    """Everything on the edge but what is pinned to the cloud."""
    return tuple(task.pinned or Side.EDGE for task in graph.tasks)


def all_cloud(graph: CostGraph, link: Link, budget: int | None) -> Sides:
    """Everything in the cloud but what is pinned to the edge, whatever the budget."""
    return tuple(task.pinned or Side.CLOUD for task in graph.tasks)


def roboecc(graph: CostGraph, link: Link, budget: int | None) -> Sides:
    """Algorithm 1 of RoboECC: from the last layer backwards, while the cloud's load is below the
    budget, the cut with the least *compute* time. The network has no say, as in the paper.
    """
    chain = layer_chain(graph)
    compute_s, load = chain.compute_s(), chain.held_bytes(Side.CLOUD)
    best = last = len(chain.order)
    for place in range(last, -1, -1):
        if budget is not None and load[place] >= budget:
            break
        if compute_s[place] < compute_s[best]:
            best = place
    return chain.sides(best)


def neurosurgeon(graph: CostGraph, link: Link, budget: int | None) -> Sides:
    """The single cut of the layer chain with the lowest price within the budget."""
    chain = layer_chain(graph)
    load = chain.held_bytes(Side.CLOUD)
    allowed = np.full(len(load), True) if budget is None else load <= budget
    return chain.sides(chain.cheapest(link, allowed))


def fixed_half(graph: CostGraph, link: Link, budget: int | None) -> Sides:
    """The single cut after which both sides hold as equal shares of the weights as can be."""
    chain = layer_chain(graph)
    apart = np.abs(chain.held_bytes(Side.EDGE) - chain.held_bytes(Side.CLOUD))
    return chain.sides(int(np.argmin(apart)))


BASELINES: Mapping[str, Cutter] = {
    "all-edge": all_edge,
    "all-cloud": all_cloud,
    "roboecc": roboecc,
    "neurosurgeon": neurosurgeon,
    "fixed-half": fixed_half,
}


def strategy_row(name: str, graph: CostGraph, sides: Sides, link: Link, limits: Limits) -> Strategy:
    """The row of the report for a cut."""
    cost = price(graph, sides, link)
    broken = limits.broken(cost)
    return Strategy(name, cost, not broken, broken)
