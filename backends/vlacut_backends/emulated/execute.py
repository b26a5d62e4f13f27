"""Emulated devices, the run half: engines that sleep for as long as the plan says a part takes.

Their outputs are zeros of the right shape. The times come from the plan in the bundle's manifest,
so a bundle of any back end can be run this way; `vlacut twin` does so.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vlacut.bundle.reading import read_bundle
from vlacut.errors import BackendError
from vlacut.plans.plan import Part, Plan

# A sleep ends late: by 50 us of the kernel's timer slack (prctl(2), PR_SET_TIMERSLACK), and by what
# it takes to be scheduled again. The rest of the way is waited for awake, and what a run was late
# all the same, the next one is early: but for more than this, which no wake-up takes.
_AWAKE_S = 200e-6
_MADE_UP_S = 1e-3


class EmulatedExecutor:
    """Loads parts of a bundle by name; reads nothing but its manifest."""

    def __init__(self) -> None:
        self._plans: dict[Path, Plan] = {}

    def load(self, model: Path, root: Path, recipe: Mapping[str, str]) -> EmulatedEngine:
        """See `vlacut.backend.Executor`. Raises BackendError for what is no part of the plan."""
        if root not in self._plans:
            self._plans[root] = read_bundle(root).plan
        plan = self._plans[root]
        if model.parent.name != "parts" or model.stem not in plan.part:
            raise BackendError(f"{model}: emulated devices run the parts of a plan, nothing else")
        return EmulatedEngine(plan, plan.part[model.stem])


class EmulatedEngine:
    """A part that takes its predicted time."""

    def __init__(self, plan: Plan, part: Part) -> None:
        self._seconds = part.seconds
        self._late_s = 0.0
        self._outputs = {
            key: np.zeros(plan.spec[key].numpy_shape, plan.spec[key].numpy_dtype)
            for key in part.outputs
        }

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `vlacut.backend.Engine`."""
        due = time.perf_counter() + self._seconds - self._late_s
        _sleep_until(due)
        self._late_s = min(time.perf_counter() - due, self._seconds, _MADE_UP_S)
        return dict(self._outputs)


def _sleep_until(due: float) -> None:
    """Return at a time of `time.perf_counter`."""
    left = due - time.perf_counter()
    if left > _AWAKE_S:
        time.sleep(left - _AWAKE_S)
    while time.perf_counter() < due:
        time.sleep(0)  # others may run
