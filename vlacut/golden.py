"""The golden step: one control step of the uncut model, recorded when a bundle is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vlacut import registry
from vlacut.annotation import EXAMPLE
from vlacut.bundle import WholePhase
from vlacut.dataflow import key_of
from vlacut.errors import InputError
from vlacut.program import Program
from vlacut.runtime.whole import load_whole, run_whole


def write_golden(
    program: Program,
    phases: Sequence[WholePhase],
    folder: Path,
    backend: str,
    recipe: Mapping[str, str],
) -> None:
    """Run the uncut phases in a bundle's folder once, and record observation and action there.

    Raises InputError if the back end has no executor, BackendError if it fails.
    """
    if backend not in registry.names("executors"):
        raise InputError(f"back end {backend} runs nothing here; record no step with --no-golden")
    executor = registry.load("executors", backend)()
    observation = example_observation(program)
    engines = load_whole(executor, folder, phases, recipe)
    tensors = run_whole(phases, engines, observation)
    action = {
        spec.name: tensors[key_of(program, program.output_source(spec.name))]
        for spec in program.outputs
    }
    (folder / "golden").mkdir()
    for which, arrays in (("observation", observation), ("action", action)):
        np.savez(folder / "golden" / f"{which}.npz", **arrays)  # type: ignore[arg-type]


def example_observation(program: Program) -> dict[str, np.ndarray]:
    """The example the front end recorded; else, from a fixed seed, normal floats and zeros."""
    recorded = EXAMPLE.find(program) or {}
    numbers = np.random.default_rng(0)
    observation = {}
    for spec in program.inputs:
        values = numbers.standard_normal(spec.numpy_shape)
        if spec.dtype not in ("float16", "float32", "float64"):
            values = np.zeros(spec.numpy_shape)
        observation[spec.name] = spec.check(
            recorded.get(spec.name, values.astype(spec.numpy_dtype))
        )
    return observation
