"""A problem as a mixed-integer linear program, for HiGHS.

    x       binary, a variable
    u, d    a flow: u >= x_c - x_p, d >= x_p - x_c for every consumer c of producer p
    y, z    a weight: y >= x_v, z >= 1 - x_v for every user v; bytes @ y are in the cloud
    h       a node of a chain graph: h_head >= h_tail + |x_head - x_tail|; the deepest is >= all h
    s       a pipe: s >= every stage, its flows being columns as all others

All but x are continuous: they are exact as soon as x is integral. A column has so much of every
quantity; one quantity is the objective, and those with a limit are rows.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from vlacut.tensor.numerics import Floats, Ints
from vlacut_passes.partitioning.limits import Quantity
from vlacut_passes.partitioning.solver.effort import Effort
from vlacut_passes.partitioning.solver.problem.chains import ChainGraph
from vlacut_passes.partitioning.solver.problem.nets import Nets
from vlacut_passes.partitioning.solver.problem.pipes import Pipe
from vlacut_passes.partitioning.solver.problem.problem import CLOUD, EDGE, LINEAR, Problem

if TYPE_CHECKING:
    from scipy.optimize import LinearConstraint

_GRAIN = 1e-4  # of a limit: HiGHS keeps it to 1e-6 of that, bytes of a GPU's memory almost exactly
_INFEASIBLE = 2  # scipy's status
_LATENCY, _ENERGY = Quantity.LATENCY, Quantity.ENERGY


@dataclass(frozen=True)
class Solved:
    """What HiGHS found.

    Attributes:
        x: an assignment, if any.
        bound: in units of the objective; no assignment has less.
        work: columns of the nodes it opened.
    """

    x: Ints | None
    bound: float
    work: float


@dataclass(frozen=True)
class Cover:
    """Variables of which not all may be in the cloud while all others of it are on the edge."""

    in_cloud: Ints
    on_edge: Ints


def cover(problem: Problem, x: Ints, quantity: Quantity) -> Cover:
    """What keeps a quantity over its limit, in an assignment that is: cloud time and bytes cannot
    shrink by more in the cloud, bytes on the edge not by less.
    """
    one, zero, none = np.flatnonzero(x == 1), np.flatnonzero(x == 0), np.zeros(0, dtype=np.int64)
    if quantity in (Quantity.CLOUD_BYTES, Quantity.CLOUD_TIME):
        return Cover(one, none)
    return Cover(none if quantity is Quantity.EDGE_BYTES else one, zero)


def solve_milp(problem: Problem, covers: Sequence[Cover], span: float, effort: Effort) -> Solved:
    """Minimise a problem. `span` is how far below the best known value the optimum may be: the
    objective is scaled by it, for HiGHS's tolerances are absolute.
    """
    from scipy.optimize import Bounds, milp  # slow to import, and few problems come to it

    model = _Model(problem, covers)
    scale = 1e4 / span
    objective = problem.limits.minimise
    with chatter_aside():
        result = milp(
            np.array(model.cost)[:, objective] * scale,
            integrality=np.array(model.integral),
            bounds=Bounds(np.zeros(len(model.cost)), np.array(model.upper)),
            constraints=model.rows(),
            options={"mip_rel_gap": 0.0, "node_limit": effort.nodes(len(model.cost))},
        )
    bound, base = result.mip_dual_bound, _base(problem)[objective]
    low = base + bound / scale if bound is not None and np.isfinite(bound) else -np.inf
    if result.status == _INFEASIBLE:
        low = np.inf
    work = (1 + (result.mip_node_count or 0)) * len(model.cost)
    if result.x is None:
        return Solved(None, low, work)
    return Solved(np.round(result.x[: problem.size]).astype(np.int64), low, work)


@contextmanager
def chatter_aside() -> Iterator[None]:
    """Send what is written to standard output's descriptor to standard error: HiGHS has a line that
    no option turns off (`transformNewIntegerFeasibleSolution`), and it would stand among a
    command's JSON.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _base(problem: Problem) -> Floats:
    base = np.zeros(len(Quantity))
    base[list(LINEAR)] = problem.base
    return base


def _by_quantity(cost: Mapping[Quantity, float]) -> list[float]:
    return [cost.get(quantity, 0.0) for quantity in Quantity]


class _Model:
    """Columns and rows, built up. A row is sum of factor * column >= low."""

    def __init__(self, problem: Problem, covers: Sequence[Cover]) -> None:
        self.cost: list[list[float]] = []
        self.integral: list[int] = []
        self.upper: list[float] = []
        self._row: list[int] = []
        self._column: list[int] = []
        self._factor: list[float] = []
        self._low: list[float] = []
        for linear in problem.unary.T.tolist():
            self._new(dict(zip(LINEAR, linear, strict=True)), 1.0, integral=1)
        self._at_least({CLOUD: 1.0}, 1.0)
        self.upper[EDGE] = 0.0
        for paid, seconds, joules in self._flows(problem.flows):
            self.cost[paid] = _by_quantity({_LATENCY: seconds, _ENERGY: joules})
        self._weights(problem)
        for chain in problem.chains:
            self._chain(chain.shrunk(problem.size), problem.idle_w)
        for pipe in problem.pipes:
            self._pipe(pipe, problem.idle_w)
        for low, high in zip(*(ends.tolist() for ends in problem.rising), strict=True):
            self._at_least({high: 1.0, low: -1.0}, 0.0)
        for one in covers:
            self._cover(one)
        for quantity, most in zip(Quantity, problem.limits.most, strict=True):
            if most is not None:
                room = most - float(_base(problem)[quantity])
                self._limit(quantity, room, (most or 1.0) * _GRAIN)

    def rows(self) -> LinearConstraint:
        """The constraints, for scipy."""
        from scipy.optimize import LinearConstraint

        shape = (len(self._low), len(self.cost))
        matrix = csr_array((self._factor, (self._row, self._column)), shape=shape)
        return LinearConstraint(matrix, np.array(self._low), np.inf)

    def _new(self, cost: Mapping[Quantity, float], upper: float, integral: int = 0) -> int:
        self.cost.append(_by_quantity(cost))
        self.upper.append(upper)
        self.integral.append(integral)
        return len(self.cost) - 1

    def _at_least(self, row: dict[int, float], low: float) -> None:
        self._row += [len(self._low)] * len(row)
        self._column += row
        self._factor += row.values()
        self._low.append(low)

    def _flows(self, flows: Nets) -> list[tuple[int, float, float]]:
        """A column per flow and direction, without a cost; the seconds and joules that it takes."""
        start, columns = flows.consumers.start, list[tuple[int, float, float]]()
        for index, producer in enumerate(flows.producer.tolist()):
            members = flows.consumers.members[start[index] : start[index + 1]].tolist()
            for cost, joules, sign in (
                (flows.up[index], flows.up_j[index], 1.0),
                (flows.down[index], flows.down_j[index], -1.0),
            ):
                if cost > 0 or joules > 0:
                    paid = self._new({}, 1.0)
                    columns.append((paid, float(cost), float(joules)))
                    for consumer in members:
                        self._at_least({paid: 1.0, consumer: -sign, producer: sign}, 0.0)
        return columns

    def _weights(self, problem: Problem) -> None:
        on_edge, in_cloud = problem.counted
        start = problem.users.start
        pairs = zip(problem.nbytes.tolist(), problem.edge_nbytes.tolist(), strict=True)
        for index, (nbytes, edge_nbytes) in enumerate(pairs):
            users = problem.users.members[start[index] : start[index + 1]].tolist()
            if in_cloud:
                held = self._new({Quantity.CLOUD_BYTES: float(nbytes)}, 1.0)
                for user in users:
                    self._at_least({held: 1.0, user: -1.0}, 0.0)
            if on_edge:
                held = self._new({Quantity.EDGE_BYTES: float(edge_nbytes)}, 1.0)
                for user in users:
                    self._at_least({held: 1.0, user: 1.0}, 1.0)

    def _cover(self, one: Cover) -> None:
        row = dict.fromkeys(one.in_cloud.tolist(), -1.0) | dict.fromkeys(one.on_edge.tolist(), 1.0)
        self._at_least(row, 1.0 - len(one.in_cloud))

    def _limit(self, quantity: Quantity, room: float, scale: float) -> None:
        costs = [(column, cost[quantity]) for column, cost in enumerate(self.cost)]
        self._at_least({column: -cost / scale for column, cost in costs if cost}, -room / scale)

    def _pipe(self, pipe: Pipe, idle_w: float) -> None:
        stages = [dict(enumerate((-row).tolist())) for row in pipe.unary]
        stages.append({column: -seconds for column, seconds, _ in self._flows(pipe.moves)})
        base = [*pipe.base.tolist(), 0.0]
        unit = _GRAIN * (max(base + [-one for row in stages for one in row.values()]) or 1.0)
        longest = self._new({_LATENCY: unit, _ENERGY: unit * idle_w}, np.inf)
        for low, row in zip(base, stages, strict=True):
            terms = {column: one / unit for column, one in row.items() if one}
            self._at_least({longest: 1.0, **terms}, low / unit)

    def _chain(self, chain: ChainGraph, idle_w: float) -> None:
        most = float(len(chain.variable))
        depth = [self._new({}, most) for _ in chain.variable]
        spent = {_LATENCY: chain.rate, _ENERGY: chain.rate * idle_w}
        deepest = self._new(spent, most)
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
