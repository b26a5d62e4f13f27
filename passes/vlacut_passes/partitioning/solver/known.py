"""What a search has met so far: the best assignment, and those that relaxations gave."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vlacut.tensor.numerics import ROUNDING, Floats, Ints
from vlacut_passes.partitioning.limits import all_within
from vlacut_passes.partitioning.solver.chains import squeezed
from vlacut_passes.partitioning.solver.core import Core


@dataclass
class Incumbent:
    """The best assignment of tasks met so far that keeps the limits.

    Attributes:
        value: of the objective; what is to be beaten while there is none.
        x: side of every task; None while there is none.
    """

    value: float
    x: Ints | None

    def offer(self, value: float, x: Ints) -> None:
        """Take the assignment if it is better by more than rounding, or as good and smaller."""
        noise = 1e-13 * abs(value)
        better = value < self.value - noise
        fewer = self.x is not None and x.sum() < self.x.sum()
        if better or (fewer and value <= self.value + noise):
            self.value, self.x = min(value, self.value), x

    def offer_core(self, core: Core, x: Ints, peak_s: float) -> None:
        """The same for an assignment of a core's variables, if it keeps the limits."""
        found = core.quantities(x, peak_s)
        if core.rises(x) and all_within(found.tolist(), core.limits.most):
            self.offer(float(found[core.limits.minimise]), x[core.of_task])

    def closed_by(self, bound: float) -> bool:
        """Whether nothing better is left if everything else has at least the bound."""
        return self.value - bound <= ROUNDING * abs(self.value)


@dataclass
class Known:
    """Assignments and paths met so far, of one core.

    Attributes:
        paths: of every chain graph.
        planes: assignments.
        found: of every plane, its quantities without peaks.
        changes: of every plane, by chain graph and path.
        stages: of every plane, by pipe.
    """

    paths: list[list[Ints]]
    planes: list[Ints] = field(default_factory=list)
    found: list[Floats] = field(default_factory=list)
    changes: list[list[list[int]]] = field(default_factory=list)
    stages: list[list[Floats]] = field(default_factory=list)

    def add(self, core: Core, x: Ints) -> float:
        """Learn an assignment, and a path of its own if it has one; returns its peaks' seconds."""
        self.planes.append(x)
        self.found.append(core.quantities(x, 0.0))
        self.changes.append([[_changes(path, x) for path in known] for known in self.paths])
        self.stages.append([pipe.stages(x) for pipe in core.pipes])
        peak_s = sum(float(stages.max()) for stages in self.stages[-1])
        for index, chain in enumerate(core.chains):
            deepest = chain.deepest(x)
            peak_s += chain.rate * deepest.depth
            if deepest.depth > max(self.changes[-1][index], default=-1):
                path = deepest.path()
                self.paths[index].append(path)
                for one, changes in zip(self.planes, self.changes, strict=True):
                    changes[index].append(_changes(path, one))
        return peak_s

    def where(self, forced: tuple[int, int]) -> Known:
        """What is known of assignments that do not cut an arc."""
        tail, head = forced
        return self._only([at for at, x in enumerate(self.planes) if x[tail] or not x[head]])

    def relabelled(self, label: Ints, size: int) -> Known:
        """The same when variable v is called `label[v]`; planes that split a label are dropped."""
        kept: dict[int, Ints] = {}
        for at, x in enumerate(self.planes):
            short = np.zeros(size, dtype=np.int64)
            short[label] = x
            if bool((short[label] == x).all()):
                kept[at] = short
        known = self._only(list(kept))
        known.planes = list(kept.values())
        known.paths = [[squeezed(label[path]) for path in paths] for paths in known.paths]
        return known

    def _only(self, planes: list[int]) -> Known:
        return Known(
            [list(paths) for paths in self.paths],
            [self.planes[at] for at in planes],
            [self.found[at] for at in planes],
            [[list(changes) for changes in self.changes[at]] for at in planes],
            [self.stages[at] for at in planes],
        )


def _changes(path: Ints, x: Ints) -> int:
    side = x[path]
    return int(np.count_nonzero(side[1:] != side[:-1]))
