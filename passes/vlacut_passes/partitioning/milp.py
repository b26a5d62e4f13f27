"""A core as a mixed-integer linear program, for HiGHS.

    x       binary, a variable
    u, d    a flow: u >= x_c - x_p, d >= x_p - x_c for every consumer c of producer p
    y       a weight: y >= x_v for every user v; sum of bytes * y <= budget
    h       a node of a chain graph: h_head >= h_tail + |x_head - x_tail|; the deepest is >= all h

All but x are continuous: they are exact as soon as x is integral.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from vlacut_passes.partitioning.chains import ChainGraph
from vlacut_passes.partitioning.core import CLOUD, EDGE, Core, Ints


@dataclass(frozen=True)
class Solved:
    """What HiGHS found: an assignment, if any, and a lower bound in seconds."""

    x: Ints | None
    bound: float


def solve_milp(core: Core, covers: Sequence[Ints], span: float, time_limit_s: float) -> Solved:
    """Minimise a core. `span` is how far below the best known price the optimum may be, in seconds:
    the objective is scaled by it, for HiGHS's tolerances are absolute.
    """
    model = _Model(core, covers)
    scale = 1e4 / span
    result = milp(
        np.array(model.cost) * scale,
        integrality=np.array(model.integral),
        bounds=Bounds(np.zeros(len(model.cost)), np.array(model.upper)),
        constraints=model.rows(),
        options={"mip_rel_gap": 0.0, "time_limit": time_limit_s},
    )
    bound = result.mip_dual_bound
    low = core.base + bound / scale if bound is not None and np.isfinite(bound) else -np.inf
    if result.x is None:
        return Solved(None, low)
    return Solved(np.round(result.x[: core.size]).astype(np.int64), low)


class _Model:
    """Columns and rows, built up. A row is sum of factor * column >= low."""

    def __init__(self, core: Core, covers: Sequence[Ints]) -> None:
        self.cost: list[float] = []
        self.integral: list[int] = []
        self.upper: list[float] = []
        self._row: list[int] = []
        self._column: list[int] = []
        self._factor: list[float] = []
        self._low: list[float] = []
        for cost in core.unary.tolist():
            self._new(cost, 1.0, integral=1)
        self._at_least({CLOUD: 1.0}, 1.0)
        self.upper[EDGE] = 0.0
        self._flows(core)
        self._weights(core, covers)
        for chain in core.chains:
            self._chain(chain)

    def rows(self) -> LinearConstraint:
        """The constraints, for scipy."""
        shape = (len(self._low), len(self.cost))
        matrix = csr_array((self._factor, (self._row, self._column)), shape=shape)
        return LinearConstraint(matrix, np.array(self._low), np.inf)

    def _new(self, cost: float, upper: float, integral: int = 0) -> int:
        self.cost.append(cost)
        self.upper.append(upper)
        self.integral.append(integral)
        return len(self.cost) - 1

    def _at_least(self, row: dict[int, float], low: float) -> None:
        self._row += [len(self._low)] * len(row)
        self._column += row
        self._factor += row.values()
        self._low.append(low)

    def _flows(self, core: Core) -> None:
        flows, start = core.flows, core.flows.consumers.start
        for index, producer in enumerate(flows.producer.tolist()):
            members = flows.consumers.members[start[index] : start[index + 1]].tolist()
            for cost, sign in ((flows.up[index], 1.0), (flows.down[index], -1.0)):
                if cost > 0:
                    paid = self._new(float(cost), 1.0)
                    for consumer in members:
                        self._at_least({paid: 1.0, consumer: -sign, producer: sign}, 0.0)

    def _weights(self, core: Core, covers: Sequence[Ints]) -> None:
        if core.budget is None or not len(core.users):
            return
        scale = max(core.budget, 1)
        room: dict[int, float] = {}
        held_by, start = [], core.users.start
        for index, nbytes in enumerate(core.nbytes.tolist()):
            users = core.users.members[start[index] : start[index + 1]].tolist()
            held = users[0] if len(users) == 1 else self._new(0.0, 1.0)
            held_by.append(held)
            room[held] = room.get(held, 0.0) - nbytes / scale
            if len(users) > 1:
                for user in users:
                    self._at_least({held: 1.0, user: -1.0}, 0.0)
        self._at_least(room, -core.budget / scale)
        for cover in covers:
            columns = {held_by[weight]: 0.0 for weight in cover.tolist()}
            self._at_least(dict.fromkeys(columns, -1.0), 1.0 - len(columns))

    def _chain(self, chain: ChainGraph) -> None:
        most = float(len(chain.variable))
        depth = [self._new(0.0, most) for _ in chain.variable]
        deepest = self._new(chain.rate, most)
        ends = set(range(len(depth))) - set(chain.tail.tolist())
        for node in sorted(ends):
            self._at_least({deepest: 1.0, depth[node]: -1.0}, 0.0)
        for tail, head in zip(chain.tail.tolist(), chain.head.tolist(), strict=True):
            one, other = int(chain.variable[tail]), int(chain.variable[head])
            for sign in (1.0, -1.0) if one != other else (0.0,):
                row = {depth[head]: 1.0, depth[tail]: -1.0}
                if sign:
                    row |= {one: sign, other: -sign}
                self._at_least(row, 0.0)
