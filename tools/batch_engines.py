"""Engines for several robots without a server: what batches can gain at most.

A step runs every part of the cloud as often as its phase has trips. So many robots are served with
the batches that take least; what that gains over one by one is a bound for every server that has
these engines, whatever it does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from vlacut.bundle.opened import Bundle
from vlacut.bundle.reading import read_bundle
from vlacut.hardware import Side
from vlacut.plans.batch import batch_name, slot
from vlacut.plans.plan import Part
from vlacut.runtime.engines import cloud_engines


def on_one_thread(path: Path) -> Bundle:
    """A bundle whose engines in the cloud have one thread."""
    opened = read_bundle(path)
    recipe = {**opened.manifest.recipes[Side.CLOUD.value], "threads": "1"}
    opened.manifest.recipes[Side.CLOUD.value] = recipe  # type: ignore[index]
    return opened


class Engines:
    """The engines of a bundle's cloud parts, for one robot and for several, on zeros.

    Args:
        path: of the bundle.
        trips: of each phase in a step; 1 for those that it lacks.
    """

    def __init__(self, path: Path, trips: Mapping[str, int]) -> None:
        bundle = on_one_thread(path)
        engines = cloud_engines(bundle, False, True)
        self._plan = bundle.plan
        self._runs: list[tuple[int, int, Any, dict[str, np.ndarray]]] = []
        self._spent: list[list[float]] = []
        for part in bundle.parts(Side.CLOUD):
            for size in (1, *(one.robots for one in part.batches)):
                name = part.name if size == 1 else batch_name(part.name, size)
                run = (size, trips.get(part.phase, 1), engines[name], self._zeros(part, size))
                run[2].run(run[3])  # the first allocates
                self._runs.append(run)
                self._spent.append([])

    def _zeros(self, part: Part, size: int) -> dict[str, np.ndarray]:
        specs = {key: self._plan.spec[key] for key in part.inputs}
        return {
            key if size == 1 else slot(key, number): np.zeros(spec.numpy_shape, spec.numpy_dtype)
            for key, spec in specs.items()
            for number in range(size)
        }

    def run(self) -> None:
        """Run each once, and note what it takes."""
        for (_, _, engine, zeros), spent in zip(self._runs, self._spent, strict=True):
            start = time.perf_counter()
            engine.run(zeros)
            spent.append(time.perf_counter() - start)

    @property
    def step_s(self) -> dict[int, float]:
        """Seconds of a step's engines, by how many robots they are for: sums of medians."""
        found: dict[int, float] = {}
        for (size, trips, _, _), spent in zip(self._runs, self._spent, strict=True):
            found[size] = found.get(size, 0.0) + trips * median(spent)
        return found

    def bound(self, robots: int) -> float:
        """The most actions a second of so many robots, to those one by one."""
        step_s = self.step_s
        fit = {size: seconds for size, seconds in step_s.items() if size <= robots}
        best = min(math.ceil(robots / size) * seconds for size, seconds in fit.items())
        return robots * step_s[1] / best
