"""The best multipliers of a relaxation, by cutting planes, and the assignments met on the way.

The relaxation's optimum is a concave function of the multipliers: the lower envelope of one plane
per assignment. A linear program maximises the envelope of the planes met so far. The relaxation at
its optimum gives the next plane. A new path joins when an assignment changes sides more often on it
than on all paths so far. The dual of the program is a mix of assignments that keeps the limits on
average; the search branches on variables that it splits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vlacut.tensor.numerics import Floats, Ints
from vlacut_passes.partitioning.limits import Quantity
from vlacut_passes.partitioning.solver.incumbent import Incumbent
from vlacut_passes.partitioning.solver.linear import solve_linear
from vlacut_passes.partitioning.solver.planes import CuttingPlanes
from vlacut_passes.partitioning.solver.problem.depths import NO_LIMIT, Span
from vlacut_passes.partitioning.solver.problem.problem import CLOUD, Problem, only_cloud
from vlacut_passes.partitioning.solver.relaxation import Mix, Relaxation, Relaxed

_MOST_ROUNDS = 25
_FLAT = 0.02  # of the gap: a bound that close to what the envelope allows is not improved further
_NOISE = 1e-12  # relative
_DEAREST = 1e3  # objectives for a whole limit: no bound needs more
_PATHS = 1 + len(Quantity)  # the first column of a path in the linear program
_STAGES = 3  # of a pipe


@dataclass(frozen=True)
class Explored:
    """What a relaxation, with its multipliers tuned, says about a problem.

    Attributes:
        bound: in units of the objective; no feasible assignment has less.
        relaxed: every relaxation that was solved; each has a bound and reduced costs of its own.
        share: per variable, how much of the mix of planes that attains the bound, or nearly, has it
            in the cloud.
    """

    bound: float
    relaxed: tuple[Relaxed, ...]
    share: Floats


@dataclass
class Dual:
    """Maximises the relaxation of a problem.

    Attributes:
        problem: what to relax.
        incumbent: is offered every feasible assignment met.
        planes: what to start from; they grow.
        spans: of every chain graph, between which depths (both included) its deepest chain is.
        forced: see `Relaxation`.
    """

    problem: Problem
    incumbent: Incumbent
    planes: CuttingPlanes
    spans: Sequence[Span]
    forced: Sequence[tuple[int, int]] = ()

    def run(self, rounds: int = _MOST_ROUNDS, *, learn: bool = True) -> Explored:
        """Solve relaxations until the bound meets the incumbent, or hardly rises any more.

        Not to `learn` saves the time to add the plane of the last one.
        """
        if not self.planes.assignments:
            self._add(self._least())
        relaxation = Relaxation(self.problem, self.forced, 10.0 * abs(self.incumbent.value))
        solved: list[Relaxed] = []
        bound = -np.inf
        for _ in range(rounds):
            mix, ceiling, share = self._multipliers()
            relaxed = relaxation.solve(mix)
            solved.append(relaxed)
            bound = max(bound, relaxed.bound)
            if self.incumbent.closed_by(bound) or not learn:
                break
            self._add(relaxed.x)
            flat = ceiling - bound <= max(
                _FLAT * (self.incumbent.value - bound), _NOISE * abs(ceiling)
            )
            if flat or self.incumbent.closed_by(bound):
                break
        return Explored(bound, tuple(solved), share)

    def _least(self) -> Ints:
        x = only_cloud(self.problem.size)
        x[[tail for tail, head in self.forced if head == CLOUD]] = 1
        return self.problem.raised(x) if len(self.problem.rising[0]) else x

    def _add(self, x: Ints) -> None:
        peak_s = self.planes.add(self.problem, x)
        self.incumbent.offer_variables(self.problem, x, peak_s)

    def _multipliers(self) -> tuple[Mix, float, Floats]:
        """Where the envelope of the planes is highest, how high, and its mix of planes."""
        unit, second = self._unit(), self._second()
        scale = self._scale(unit)
        per = unit / scale * self._limited()
        paths, stages = sum(map(len, self.planes.paths)), _STAGES * len(self.problem.pipes)
        ends = np.cumsum([_PATHS, paths, stages, 2 * len(self.spans)])
        goal = np.zeros(ends[-1])
        goal[0] = -1.0
        equal = [*self._rates(len(goal), per / unit)]
        equal += self._shares(len(goal), int(ends[1]), per * second / unit)
        solved = solve_linear(
            goal,
            self._rows(scale, second),
            np.array(equal).reshape(-1, len(goal)),
            [
                (-np.inf, np.inf),
                *self._ranges(),
                *[(0.0, np.inf)] * (paths + stages),
                *self._slacks(),
            ],
        )
        value = solved.x
        of = per * np.maximum(value[1:_PATHS], 0.0)
        mixed = self._weights(of, value[ends[1] : ends[2]] * (unit / second))
        mix = self._mix(of, value[ends[0] : ends[1]] * unit, mixed)
        share = -solved.shadow @ np.array(self.planes.assignments)
        return mix, float(value[0]) * unit, share

    def _unit(self) -> float:
        """The order of the objective: the linear program's tolerances are absolute."""
        objective = self.problem.limits.minimise
        return (
            max(abs(float(quantities[objective])) for quantities in self.planes.quantities) or 1.0
        )

    def _scale(self, unit: float) -> Floats:
        """The order of every quantity."""
        scale = np.array([most or 1.0 for most in self.problem.limits.most])
        scale[self.problem.limits.minimise] = unit
        return scale

    def _second(self) -> float:
        """The order of what pipes take."""
        stages = [one.max() for plane in self.planes.stages for one in plane]
        return float(max(stages, default=1.0)) or 1.0

    def _limited(self) -> Floats:
        """By quantity, 1 if it has a multiplier: the objective has, fixed at 1."""
        limited = np.array([float(most is not None) for most in self.problem.limits.most])
        limited[self.problem.limits.minimise] = 1.0
        return limited

    def _rows(self, scale: Floats, second: float) -> Floats:
        """A row per plane:

        bound - multipliers * what exceeds the limits - changes * weights - stages * weights
              - lowest depth * weight missing + highest depth * weight too much <= 0
        """
        most = np.array([most or 0.0 for most in self.problem.limits.most])
        over = (np.array(self.planes.quantities) - most) / scale
        changes = [[count for counts in plane for count in counts] for plane in self.planes.changes]
        depths = [depth for span in self.spans for depth in (-span.low, min(span.high, NO_LIMIT))]
        stages = np.array(self.planes.stages).reshape(len(over), -1) / second
        ones = np.ones((len(over), 1))
        paths = np.array(changes, dtype=np.float64)
        return np.hstack([ones, -over, -paths, -stages, ones * depths])

    def _ranges(self) -> list[tuple[float, float]]:
        ranges = [(0.0, _DEAREST * limited) for limited in self._limited().tolist()]
        ranges[self.problem.limits.minimise] = (1.0, 1.0)
        return ranges

    def _slacks(self) -> list[tuple[float, float]]:
        """How much weight may be missing, and too much, per chain graph."""
        much = [_DEAREST if span.high < NO_LIMIT else 0.0 for span in self.spans]
        return [one for most in much for one in ((0.0, np.inf), (0.0, most))]

    def _rates(self, count: int, per: Floats) -> Floats:
        """The weights of a chain graph's paths are its rate times what a second weighs, but for
        what is missing or too much.
        """
        equal, column = np.zeros((len(self.planes.paths), count)), _PATHS
        pairs = zip(self.problem.chains, self.planes.paths, strict=True)
        for row, (chain, paths) in enumerate(pairs):
            equal[row, column : column + len(paths)] = 1.0
            equal[row, 1 + Quantity.LATENCY] = -chain.rate * per[Quantity.LATENCY]
            energy = self.problem.idle_w * per[Quantity.ENERGY]
            equal[row, 1 + Quantity.ENERGY] = -chain.rate * energy
            slack = count - 2 * (len(self.spans) - row)
            equal[row, slack : slack + 2] = 1.0, -1.0
            column += len(paths)
        return equal

    def _shares(self, count: int, column: int, per: Floats) -> Iterator[Floats]:
        """The weights of a pipe's stages are what a second weighs."""
        for _ in self.problem.pipes:
            row = np.zeros(count)
            row[column : column + _STAGES] = 1.0
            row[1 + Quantity.LATENCY] = -per[Quantity.LATENCY]
            row[1 + Quantity.ENERGY] = -self.problem.idle_w * per[Quantity.ENERGY]
            column += _STAGES
            yield row

    def _weights(self, of: Floats, weights: Floats) -> list[Floats]:
        """The weights of every pipe's stages, together no more than a second weighs."""
        most = self.problem.waiting(of)
        by_pipe = np.maximum(weights, 0.0).reshape(-1, _STAGES)
        return [one * min(1.0, most / max(float(one.sum()), 1e-300)) for one in by_pipe]

    def _mix(self, of: Floats, weights: Floats, stages: Sequence[Floats]) -> Mix:
        """The multipliers, with what the depths' spans add to every assignment."""
        mixed: list[tuple[Ints, float]] = []
        column, constant = 0, 0.0
        chains = self.problem.chains
        for chain, paths, span in zip(chains, self.planes.paths, self.spans, strict=True):
            mine = np.maximum(weights[column : column + len(paths)], 0.0)
            column += len(paths)
            rate = chain.rate * self.problem.waiting(of)
            if span.high >= NO_LIMIT:
                mine *= min(1.0, rate / max(float(mine.sum()), 1e-300))
            missing = rate - float(mine.sum())
            constant += missing * (span.low if missing > 0 else span.high)
            mixed += [(path, w) for path, w in zip(paths, mine.tolist(), strict=True) if w > 0]
        return Mix(of, mixed, stages, constant)
