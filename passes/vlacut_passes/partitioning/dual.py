"""The best multipliers of a relaxation, by cutting planes, and the assignments met on the way.

The relaxation's optimum is a concave function of the multipliers: the lower envelope of one plane
an assignment. A linear program maximises the envelope of the planes known so far; the relaxation
there gives the next plane. New paths join when an assignment changes sides more often on a path
than on all known ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linprog

from vlacut_passes.partitioning.chains import squeezed
from vlacut_passes.partitioning.core import CLOUD, Core, Floats, Ints
from vlacut_passes.partitioning.relaxation import Mix, Relaxation, Relaxed


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


@dataclass
class Dual:
    """Maximises the relaxation of a core. `best` is the highest bound found, with its cut."""

    core: Core
    incumbent: Incumbent
    paths: list[list[Ints]]
    best: Relaxed | None = None
    _planes: list[Ints] = field(default_factory=list)
    _serial: list[float] = field(default_factory=list)

    def run(self, rounds: int) -> Relaxed:
        """Up to so many relaxations. Stops when the bound meets the incumbent, or its limit."""
        core = self.core
        relaxation = Relaxation(core)
        edge = np.zeros(core.size, dtype=np.int64)
        edge[CLOUD] = 1
        self._add(edge)
        for _ in range(rounds):
            mix, ceiling = self._multipliers()
            found = relaxation.solve(mix)
            if self.best is None or found.bound > self.best.bound:
                self.best = found
            self._add(found.x)
            noise = 1e-12 * abs(ceiling)
            if min(ceiling, self.incumbent.price_s) - self.best.bound <= noise:
                break
        assert self.best is not None
        return self.best

    def _add(self, x: Ints) -> None:
        core = self.core
        hops = 0.0
        for chain, known in zip(core.chains, self.paths, strict=True):
            depth, path = chain.deepest(x)
            hops += chain.rate * depth
            if depth > max((_changes(one, x) for one in known), default=-1):
                known.append(path)
        serial = core.serial_s(x)
        self._planes.append(x)
        self._serial.append(serial)
        if core.budget is None or core.cloud_bytes(x) <= core.budget:
            self.incumbent.offer(serial + hops, x[core.of_task])

    def _multipliers(self) -> tuple[Mix, float]:
        """Where the envelope of the known planes is highest, and how high."""
        core, paths = self.core, [path for known in self.paths for path in known]
        rows = [self._plane(x, paths) for x in self._planes]
        if not paths and core.budget is None:
            return Mix(0.0, []), min(self._serial)
        count = 2 + len(paths)
        goal = np.zeros(count)
        goal[0] = -1.0
        equal, rate = self._rates(count)
        solved = linprog(
            goal,
            A_ub=np.array(rows),
            b_ub=np.array(self._serial),
            A_eq=equal,
            b_eq=rate,
            bounds=[(None, None), (0, self._dearest), *[(0, None)] * len(paths)],
            method="highs",
        )
        value = solved.x
        scale = max(core.budget or 1, 1)
        mixed = [(path, float(w)) for path, w in zip(paths, value[2:], strict=True) if w > 0]
        return Mix(float(value[1]) / scale, mixed), float(value[0])

    @property
    def _dearest(self) -> float:
        """Seconds for a whole budget that no bound needs to exceed."""
        return 1e3 * max(abs(serial) for serial in self._serial) + 1.0

    def _plane(self, x: Ints, paths: Sequence[Ints]) -> Floats:
        """Bound - over * budget_s - sum of changes * path_s <= serial_s, as coefficients."""
        core, over = self.core, 0.0
        if core.budget is not None:
            over = (core.cloud_bytes(x) - core.budget) / max(core.budget, 1)
        return np.array([1.0, -over, *(-_changes(path, x) for path in paths)])

    def _rates(self, count: int) -> tuple[Floats, Floats]:
        equal, column = np.zeros((len(self.core.chains), count)), 2
        for row, known in enumerate(self.paths):
            equal[row, column : column + len(known)] = 1.0
            column += len(known)
        return equal, np.array([chain.rate for chain in self.core.chains])


def _changes(path: Ints, x: Ints) -> int:
    side = x[path]
    return int(np.count_nonzero(side[1:] != side[:-1]))


def relabelled(paths: Sequence[list[Ints]], label: Ints) -> list[list[Ints]]:
    """The same paths when variable v is called `label[v]`."""
    return [[squeezed(label[path]) for path in known] for known in paths]
