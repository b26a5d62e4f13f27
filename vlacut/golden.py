"""The golden step: one control step of the uncut model, recorded when a bundle is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from vlacut import registry
from vlacut.annotation import EXAMPLE
from vlacut.backend import Engine
from vlacut.bundle import WholePhase, write_part_golden
from vlacut.dataflow import key_of
from vlacut.errors import InputError
from vlacut.plan import Instruction, Loop, Move, Plan, Run, Transfer, Trips, taken
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


def write_part_goldens(
    plan: Plan,
    observation: Mapping[str, np.ndarray],
    folder: Path,
    backend: str,
    recipe: Mapping[str, str],
) -> None:
    """Run every variant of the plan once on this machine; record each part's first run.

    Raises BackendError if a part cannot be run by that back end.
    """
    executor = registry.load("executors", backend)()
    engines: dict[str, Engine] = {}
    for variant in plan.variants:
        held = dict(observation)
        for item in _unrolled(variant.schedule):
            if isinstance(item, Move):
                held[item.target] = held[item.source]
                continue
            part, first = plan.part[item.part], item.part not in engines
            if first:
                path = folder / "parts" / f"{part.name}.onnx"
                engines[part.name] = executor.load(path, folder, recipe)
            inputs = {key: held[key] for key in part.inputs}
            made = engines[part.name].run(inputs)
            if first:
                write_part_golden(folder / "golden" / "parts" / f"{part.name}.npz", inputs, made)
            held |= made


def _unrolled(schedule: Sequence[Instruction]) -> Iterator[Run | Move]:
    """What a step does, on whichever side, in order."""
    for item in schedule:
        if isinstance(item, Loop):
            for trip in range(item.trips):
                for inner in item.body:
                    trips = Trips.ALL if isinstance(inner, Run) else inner.trips
                    if not isinstance(inner, Transfer) and taken(trips, trip, item.trips):
                        yield inner
        elif isinstance(item, (Run, Move)):
            yield item


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
