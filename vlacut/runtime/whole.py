"""The uncut model, phase by phase: what every cut is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vlacut import registry
from vlacut.backend import Engine, Executor
from vlacut.bundle.contents import WholePhase
from vlacut.bundle.opened import Bundle
from vlacut.errors import Progress, unwatched
from vlacut.plans.state import PlanState

SEQUENCE = 8  # steps of an episode that are recorded and compared, of a model that remembers


def run_whole(
    phases: Sequence[WholePhase],
    engines: Mapping[str, Engine],
    observation: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """All tensors, by key, after a control step of the uncut phases; engines are by phase name.

    For a model that remembers, see `UncutEpisode`.
    """
    return _run(phases, engines, dict(observation), (), unwatched)


class UncutEpisode:
    """The uncut model, one control step after the other.

    Args:
        phases: the uncut phases.
        engines: their engines, by phase name.
        states: what a step leaves to the next.
        initial: the state in the first step, by key.

    Attributes:
        state: the state that the next step builds on, by key.
    """

    def __init__(
        self,
        phases: Sequence[WholePhase],
        engines: Mapping[str, Engine],
        states: Sequence[PlanState] = (),
        initial: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self._phases, self._engines, self._states = phases, engines, states
        self._initial = dict(initial or {})
        self.reset()

    def reset(self) -> None:
        """Begin an episode."""
        self.state = dict(self._initial)
        self._first = True

    def step(
        self, observation: Mapping[str, np.ndarray], progress: Progress = unwatched
    ) -> dict[str, np.ndarray]:
        """All tensors by key after the step. `progress` is called before every run of a phase."""
        phases = [one for one in self._phases if self._first or not one.on_reset]
        held = {**observation, **self.state}
        held = _run(phases, self._engines, held, self._states, progress)
        self._first = False
        self.state = {one.key: held[one.source or one.key] for one in self._states}
        return held


def _run(
    phases: Sequence[WholePhase],
    engines: Mapping[str, Engine],
    held: dict[str, np.ndarray],
    states: Sequence[PlanState],
    progress: Progress,
) -> dict[str, np.ndarray]:
    done, total = 0, sum(phase.trips for phase in phases)
    for phase in phases:
        held |= {binding.key: held[binding.initial] for binding in phase.inputs}
        for _ in range(phase.trips):
            progress(phase.name, done, total)
            done += 1
            made = engines[phase.name].run({item.key: held[item.key] for item in phase.inputs})
            held |= made
            held |= {item.key: made[item.carried] for item in phase.inputs if item.carried}
        if phase.on_reset:
            held |= {one.key: held[one.reset] for one in states if one.reset in phase.outputs}
    return held


def load_whole(
    executor: Executor, root: Path, phases: Sequence[WholePhase], recipe: Mapping[str, str]
) -> dict[str, Engine]:
    """Engines of the uncut phases of a bundle, by phase name."""
    return {
        phase.name: executor.load(root / "whole" / f"{phase.name}.onnx", root, recipe)
        for phase in phases
    }


def load_uncut(bundle: Bundle, provider: str = "") -> dict[str, Engine] | None:
    """Engines of the uncut phases on this machine, by phase name; None where engines are built of
    parts alone. A `provider` takes the place of the recipe's. Raises BackendError if they cannot be
    loaded.
    """
    manifest = bundle.manifest
    name = bundle.backend(manifest.uncut)
    if name in registry.names("engine_builders"):
        return None
    executor = registry.load("executors", name)()
    recipe = dict(bundle.recipe(manifest.uncut))
    if provider and "provider" in recipe:
        recipe["provider"] = provider
    return load_whole(executor, bundle.root, manifest.whole, recipe)
