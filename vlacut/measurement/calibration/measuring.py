"""Measuring samples through a back end: built and loaded like the parts of a bundle."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import onnx_ir as ir

from vlacut import registry
from vlacut.errors import InputError, Progress, unwatched
from vlacut.ir.graphs import value_spec
from vlacut.measurement.calibration.chain import Sample
from vlacut.measurement.stopwatch import Measured, measure
from vlacut.split.emission import save
from vlacut.split.weights import WeightStore
from vlacut.tensor.numerics import synthetic


def measure_samples(
    samples: Sequence[Sample],
    backend: str,
    turns: int,
    threads: int = 0,
    progress: Progress = unwatched,
) -> tuple[Measured, ...]:
    """Time every sample on this machine, with the engines that the back end makes of it.

    Engines take so many threads, or, with 0, as many as the back end's recipe says. The time of one
    thread is taken by the thread's own clock, which stands still while others have the processor.

    Raises InputError if the back end has no executor, BackendError if it cannot run a sample.
    """
    if backend not in registry.names("executors"):
        raise InputError(f"back end {backend} runs nothing here, so there is nothing to measure")
    with tempfile.TemporaryDirectory() as folder:
        engines = []
        for done, sample in enumerate(samples):
            progress("build", done, len(samples))
            engines.append(_runner(sample, backend, threads, Path(folder) / str(done)))
        clock = time.thread_time if threads == 1 else time.perf_counter
        return measure(engines, turns, progress, clock)


def _runner(sample: Sample, backend: str, threads: int, folder: Path) -> Callable[[], object]:
    builder = registry.load("builders", backend)()
    executor = registry.load("executors", backend)()
    folder.mkdir()
    model = ir.Model(sample.model.graph.clone(), ir_version=sample.model.ir_version)
    builder.prepare(model, sample.name, builder.recipe())
    WeightStore(folder).externalise(model)
    path = folder / "sample.onnx"
    save(model, path)
    inputs = {spec.name: synthetic(spec) for spec in map(value_spec, model.graph.inputs)}
    recipe = {**builder.recipe(), **({"threads": str(threads)} if threads else {})}
    return partial(executor.load(path, folder, recipe).run, inputs)
