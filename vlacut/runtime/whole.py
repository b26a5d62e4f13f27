"""The uncut model, phase by phase: what every cut is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vlacut.backend import Engine, Executor
from vlacut.bundle.manifest import WholePhase


def run_whole(
    phases: Sequence[WholePhase],
    engines: Mapping[str, Engine],
    observation: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """All tensors by key after a control step of the uncut phases; engines by phase name."""
    held = dict(observation)
    for phase in phases:
        held |= {binding.key: held[binding.initial] for binding in phase.inputs}
        for _ in range(phase.trips):
            made = engines[phase.name].run({item.key: held[item.key] for item in phase.inputs})
            held |= made
            held |= {item.key: made[item.carried] for item in phase.inputs if item.carried}
    return held


def load_whole(
    executor: Executor, root: Path, phases: Sequence[WholePhase], recipe: Mapping[str, str]
) -> dict[str, Engine]:
    """Engines of the uncut phases of a bundle, by phase name."""
    return {
        phase.name: executor.load(root / "whole" / f"{phase.name}.onnx", root, recipe)
        for phase in phases
    }
