"""The best multipliers of a relaxation, by cutting planes, and the assignments met on the way.

The relaxation's optimum is a concave function of the multipliers: the lower envelope of one plane
an assignment. A linear program maximises the envelope of the planes known so far; the relaxation
there gives the next plane. New paths join when an assignment changes sides more often on a path
than on all known ones. The program's own dual is a mix of assignments that keeps the budget on
average: variables that it splits are those to branch on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linprog

from vlacut_passes.partitioning.chains import squeezed
from vlacut_passes.partitioning.core import CLOUD, Core, Floats, Ints
from vlacut_passes.partitioning.relaxation import Mix, Relaxation, Relaxed

_MOST_ROUNDS = 25
_FLAT = 0.02  # of the gap: a bound that close to what the envelope allows is not improved further
_CLOSED = 1e-12  # relative: what two ways to add up a price may differ by


@dataclass
class Incumbent:
    """The cheapest feasible assignment of tasks met so far, in seconds; none yet: infinity."""

    price_s: float
    x: Ints

    def offer(self, price_s: float, x: Ints) -> None:
        """Take the assignment if it is cheaper by more than rounding, or as cheap and smaller."""
        noise = 1e-13 * abs(price_s)
        cheaper = price_s < self.price_s - noise
        if cheaper or (price_s <= self.price_s + noise and x.sum() < self.x.sum()):
            self.price_s, self.x = min(price_s, self.price_s), x

    def closed_by(self, bound_s: float) -> bool:
        """Whether nothing cheaper is left if everything else costs at least the bound."""
        return self.price_s - bound_s <= _CLOSED * abs(self.price_s)


@dataclass(frozen=True)
class Explored:
    """What a relaxation, with its multipliers tuned, says about a core.

    Attributes:
        bound: in seconds; no feasible assignment is cheaper.
        relaxed: every relaxation that was solved; each has a bound and reduced costs of its own.
        planes: the assignments whose mix attains the bound, or nearly.
        share: per variable, how much of the mix has it in the cloud.
    """

    bound: float
    relaxed: tuple[Relaxed, ...]
    planes: tuple[Ints, ...]
    share: Floats


@dataclass
class Dual:
    """Maximises the relaxation of a core.

    Attributes:
        core: what to relax.
        incumbent: is offered every feasible assignment met.
        paths: of every chain graph, those known; new ones are added.
        planes: assignments to start from.
        forced: see `Relaxation`.
    """

    core: Core
    incumbent: Incumbent
    paths: list[list[Ints]]
    planes: list[Ints]
    forced: tuple[int, int] | None = None
    _serial: list[float] = field(default_factory=list)
    _over: list[float] = field(default_factory=list)

    def run(self, rounds: int = _MOST_ROUNDS) -> Explored:
        """Solve relaxations until the bound meets the incumbent, or hardly rises any more."""
        planes, self.planes = self.planes, []
        for x in (*planes, self._least()):
            if self.forced is None or x[self.forced[0]] or not x[self.forced[1]]:
                self._add(x)
        relaxation = Relaxation(self.core, self.forced, 10.0 * abs(self.incumbent.price_s))
        solved: list[Relaxed] = []
        bound = -np.inf
        for _ in range(rounds):
            mix, ceiling, shares = self._multipliers()
            found = relaxation.solve(mix, self.incumbent.price_s)
            solved.append(found)
            bound = max(bound, found.bound)
            mixed = self._mixed(shares)
            self._add(found.x)
            flat = ceiling - bound <= max(
                _FLAT * (self.incumbent.price_s - bound), _CLOSED * abs(ceiling)
            )
            if flat or self.incumbent.closed_by(bound):
                break
        return Explored(bound, tuple(solved), *mixed)

    def _least(self) -> Ints:
        x = only_cloud(self.core.size)
        if self.forced is not None and self.forced[1] == CLOUD:
            x[self.forced[0]] = 1
        return x

    def _add(self, x: Ints) -> None:
        core, hops = self.core, 0.0
        for chain, known in zip(core.chains, self.paths, strict=True):
            depth, path = chain.deepest(x)
            hops += chain.rate * depth
            if depth > max((_changes(one, x) for one in known), default=-1):
                known.append(path)
        serial, nbytes = core.serial_s(x), core.cloud_bytes(x)
        self.planes.append(x)
        self._serial.append(serial)
        self._over.append((nbytes - (core.budget or 0)) / max(core.budget or 0, 1))
        if core.budget is None or nbytes <= core.budget:
            self.incumbent.offer(serial + hops, x[core.of_task])

    def _multipliers(self) -> tuple[Mix, float, Floats]:
        """Where the envelope of the known planes is highest, how high, and its mix of planes."""
        core, paths = self.core, [path for known in self.paths for path in known]
        if not paths and core.budget is None:
            best = int(np.argmin(self._serial))
            return Mix(0.0, []), self._serial[best], np.eye(len(self.planes))[best]
        goal = np.zeros(2 + len(paths))
        goal[0] = -1.0
        dearest = 1e3 * max(abs(serial) for serial in self._serial) + 1.0
        solved = linprog(
            goal,
            A_ub=self._envelope(paths),
            b_ub=np.array(self._serial),
            A_eq=self._rates(len(goal)),
            b_eq=np.array([chain.rate for chain in core.chains]),
            bounds=[(None, None), (0, dearest), *[(0, None)] * len(paths)],
            method="highs",
        )
        value = solved.x
        mixed = [(path, float(w)) for path, w in zip(paths, value[2:], strict=True) if w > 0]
        byte_s = float(value[1]) / max(core.budget or 0, 1) if core.budget is not None else 0.0
        return Mix(byte_s, mixed), float(value[0]), -solved.ineqlin.marginals

    def _envelope(self, paths: Sequence[Ints]) -> Floats:
        """Bound - over * budget_s - sum of changes * path_s <= serial_s: a row a plane."""
        rows = [
            [1.0, -over, *(-_changes(path, x) for path in paths)]
            for x, over in zip(self.planes, self._over, strict=True)
        ]
        return np.array(rows, dtype=np.float64)

    def _rates(self, count: int) -> Floats:
        """The weights of a chain graph's paths add up to its rate: a row a chain graph."""
        equal, column = np.zeros((len(self.core.chains), count)), 2
        for row, known in enumerate(self.paths):
            equal[row, column : column + len(known)] = 1.0
            column += len(known)
        return equal

    def _mixed(self, shares: Floats) -> tuple[tuple[Ints, ...], Floats]:
        used = np.flatnonzero(shares > 1e-9)
        share = np.zeros(self.core.size)
        for plane in used.tolist():
            share += shares[plane] * self.planes[plane]
        return tuple(self.planes[plane] for plane in used.tolist()), share


def only_cloud(size: int) -> Ints:
    """The assignment with nothing in the cloud but what must be."""
    x = np.zeros(size, dtype=np.int64)
    x[CLOUD] = 1
    return x


def _changes(path: Ints, x: Ints) -> int:
    side = x[path]
    return int(np.count_nonzero(side[1:] != side[:-1]))


def relabelled(paths: Sequence[list[Ints]], label: Ints) -> list[list[Ints]]:
    """The same paths when variable v is called `label[v]`."""
    return [[squeezed(label[path]) for path in known] for known in paths]
