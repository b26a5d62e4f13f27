"""The cheapest cut of a graph, with the proof that there is none cheaper.

1. The graph becomes a `Core`, a variable a task.
2. A Lagrangian relaxation, a minimum cut, bounds the price from below (`dual`), and contracts the
   core: variables whose parting would cost more than the gap become one (`coarsen`). Repeated while
   it helps. Without hops and budget the first minimum cut is the answer; with them the bound often
   meets an assignment's price, which is then proven optimal.
3. What is left goes to HiGHS (`milp`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from vlacut.errors import InfeasibleError
from vlacut.hardware import Link
from vlacut.pricing import CostGraph, Price, Side, price
from vlacut_passes.partitioning.coarsen import equal_variables
from vlacut_passes.partitioning.core import CLOUD, Core, Ints, make_core, relabel
from vlacut_passes.partitioning.dual import Dual, Incumbent, relabelled
from vlacut_passes.partitioning.milp import solve_milp

_ROUNDS = 30
_STAGES = 4
_EXACT = 1e-12  # relative; what two ways to add up a price may differ by


@dataclass(frozen=True)
class Found:
    """A cut, and the proof of how good it is.

    Attributes:
        sides: of every task.
        price: of the cut.
        bound_s: no feasible cut is cheaper, in seconds; at most `price.total_s`.
    """

    sides: tuple[Side, ...]
    price: Price
    bound_s: float

    @property
    def gap_s(self) -> float:
        """How far the cut may be from the best, in seconds; 0 if it is proven to be the best."""
        return self.price.total_s - self.bound_s


def optimal_cut(
    graph: CostGraph,
    link: Link,
    cloud_weight_budget: int | None = None,
    *,
    time_limit_s: float = 600.0,
) -> Found:
    """The cheapest cut whose distinct cloud weights are at most `cloud_weight_budget` bytes.

    Of cuts that are equally cheap, those with fewer tasks in the cloud are preferred. If HiGHS
    reaches its time limit, the best cut known is returned with its gap.

    Raises InfeasibleError if the weights of tasks pinned to the cloud exceed the budget.
    """
    core = make_core(graph, link, cloud_weight_budget)
    edge = np.zeros(core.size, dtype=np.int64)
    edge[CLOUD] = 1
    least = core.cloud_bytes(edge)
    if core.budget is not None and least > core.budget:
        raise InfeasibleError(
            f"cloud weights: what is pinned to the cloud holds {least} bytes, "
            f"{least - core.budget} more than the budget of {core.budget}; raise it or unpin"
        )
    incumbent = Incumbent(np.inf, edge[core.of_task])
    bound = _search(core, incumbent, time_limit_s)
    sides = tuple(Side.CLOUD if one else Side.EDGE for one in incumbent.x.tolist())
    cost = price(graph, sides, link)
    proven = bound >= incumbent.price_s * (1 - _EXACT)
    return Found(sides, cost, cost.total_s if proven else min(bound, cost.total_s))


def _search(core: Core, incumbent: Incumbent, time_limit_s: float) -> float:
    """Improve the incumbent until it is optimal or time is up; returns the lower bound."""
    paths: list[list[Ints]] = [[] for _ in core.chains]
    for _ in range(_STAGES):
        best = Dual(core, incumbent, paths).run(_ROUNDS)
        gap = incumbent.price_s - best.bound
        noise = 1e-10 * abs(incumbent.price_s)
        if gap <= _EXACT * abs(incumbent.price_s):
            return incumbent.price_s
        label = equal_variables(core, best.cut, gap + noise)
        if label is None:
            return incumbent.price_s
        size, before = int(label.max()) + 1, core.size
        core = relabel(core, label, size)
        paths = relabelled(paths, label)
        if size == 2 or size > 0.8 * before:
            break
    return _exhaust(core, incumbent, gap + noise, time_limit_s)


def _exhaust(core: Core, incumbent: Incumbent, span: float, time_limit_s: float) -> float:
    """Solve a core with HiGHS; returns the lower bound.

    HiGHS keeps a budget to its tolerance only. A set of weights that exceeds it after all is cut
    off by name, and HiGHS asked again.
    """
    covers: list[Ints] = []
    deadline = time.monotonic() + time_limit_s
    while True:
        left = max(deadline - time.monotonic(), 0.0)
        solved = solve_milp(core, covers, span, left)
        if solved.x is None:
            return min(solved.bound, incumbent.price_s)
        if core.budget is None or core.cloud_bytes(solved.x) <= core.budget:
            break
        covers.append(np.flatnonzero(core.users.highest(solved.x)))
    found_s = core.serial_s(solved.x) + core.hop_s(solved.x)
    incumbent.offer(found_s, solved.x[core.of_task])
    finished = solved.bound >= found_s - 1e-9 * span
    return incumbent.price_s if finished else min(solved.bound, incumbent.price_s)
