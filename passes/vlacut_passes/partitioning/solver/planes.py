"""Cutting planes: the assignments and paths that relaxations of one problem gave so far."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vlacut.tensor.numerics import Floats, Ints
from vlacut_passes.partitioning.solver.problem.chains import squeezed
from vlacut_passes.partitioning.solver.problem.problem import Problem


@dataclass
class CuttingPlanes:
    """One cutting plane per assignment, for the program that `dual` solves.

    Attributes:
        paths: of every chain graph.
        assignments: one per plane.
        quantities: of every plane, without peaks.
        changes: of every plane, by chain graph and path.
        stages: of every plane, by pipe.
    """

    paths: list[list[Ints]]
    assignments: list[Ints] = field(default_factory=list)
    quantities: list[Floats] = field(default_factory=list)
    changes: list[list[list[int]]] = field(default_factory=list)
    stages: list[list[Floats]] = field(default_factory=list)

    def add(self, problem: Problem, x: Ints) -> float:
        """Learn an assignment, and a path of its own if it has one; returns its peaks' seconds."""
        self.assignments.append(x)
        self.quantities.append(problem.quantities(x, 0.0))
        self.changes.append([[_changes(path, x) for path in paths] for paths in self.paths])
        self.stages.append([pipe.stages(x) for pipe in problem.pipes])
        peak_s = sum(float(stages.max()) for stages in self.stages[-1])
        for index, chain in enumerate(problem.chains):
            deepest = chain.deepest(x)
            peak_s += chain.rate * deepest.depth
            if deepest.depth > max(self.changes[-1][index], default=-1):
                path = deepest.path()
                self.paths[index].append(path)
                for one, changes in zip(self.assignments, self.changes, strict=True):
                    changes[index].append(_changes(path, one))
        return peak_s

    def where(self, forced: tuple[int, int]) -> CuttingPlanes:
        """Those of assignments that do not cut an arc."""
        tail, head = forced
        return self._only([at for at, x in enumerate(self.assignments) if x[tail] or not x[head]])

    def relabelled(self, label: Ints, size: int) -> CuttingPlanes:
        """The same when variable v is called `label[v]`, without those that split a label."""
        kept: dict[int, Ints] = {}
        for at, x in enumerate(self.assignments):
            short = np.zeros(size, dtype=np.int64)
            short[label] = x
            if bool((short[label] == x).all()):
                kept[at] = short
        planes = self._only(list(kept))
        planes.assignments = list(kept.values())
        planes.paths = [[squeezed(label[path]) for path in paths] for paths in planes.paths]
        return planes

    def _only(self, kept: list[int]) -> CuttingPlanes:
        return CuttingPlanes(
            paths=[list(paths) for paths in self.paths],
            assignments=[self.assignments[at] for at in kept],
            quantities=[self.quantities[at] for at in kept],
            changes=[[list(changes) for changes in self.changes[at]] for at in kept],
            stages=[self.stages[at] for at in kept],
        )


def _changes(path: Ints, x: Ints) -> int:
    side = x[path]
    return int(np.count_nonzero(side[1:] != side[:-1]))
