"""Measuring samples through a back end: built and loaded like the parts of a bundle."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import onnx_ir as ir

from vlacut.errors import Progress, UnsupportedError, unwatched
from vlacut.ir.graphs import value_spec
from vlacut.measurement.calibration.chain import Sample
from vlacut.measurement.stopwatch import Measured, measure
from vlacut.runtime.engines import OpenedEngines
from vlacut.split.workshop import Workshop, workshop
from vlacut.tensor.numerics import synthetic


def measure_samples(
    samples: Sequence[Sample],
    backend: str,
    turns: int,
    threads: int = 0,
    progress: Progress = unwatched,
    provider: str = "",
) -> tuple[Measured, ...]:
    """Time every sample on this machine, see `sample_runs` and `clock_of`.

    Raises InputError if the back end has no executor or no such provider, BackendError if it cannot
    run a sample.
    """
    with sample_runs(samples, backend, threads, progress, provider) as runs:
        return measure(runs, turns, progress, clock_of(threads))


def clock_of(threads: int) -> Callable[[], float]:
    """The clock, in seconds, of engines of so many threads.

    The time of one thread is taken by the thread's own clock, which stands still while others have
    the processor.
    """
    return time.thread_time if threads == 1 else time.perf_counter


@contextmanager
def sample_runs(
    samples: Sequence[Sample],
    backend: str,
    threads: int = 0,
    progress: Progress = unwatched,
    provider: str = "",
) -> Iterator[list[Callable[[], object]]]:
    """What runs every sample once, with the engine that the back end makes of it.

    Those of a device have their inputs there, and leave there what they make, as between the parts
    of a bundle; a provider that is named is taken, and no other. Engines take so many threads, or,
    with 0, as many as the back end's recipe says.

    Raises InputError if the back end has no executor or no such provider, BackendError if it cannot
    load a sample.
    """
    with ExitStack() as stack:
        runs = []
        for done, sample in enumerate(samples):
            progress("build", done, len(samples))
            made_here = stack.enter_context(workshop(backend, threads, provider))
            runs.append(_runner(sample, made_here, stack))
        yield runs


def can_run(sample: Sample, backend: str, threads: int = 0, provider: str = "") -> bool:
    """Whether the back end has the operators of a sample."""
    try:
        check_runs(sample, backend, threads, provider)
    except UnsupportedError:
        return False
    return True


def check_runs(sample: Sample, backend: str, threads: int = 0, provider: str = "") -> None:
    """Raise BackendError or InputError, with what is missing, if no engine can be made of it."""
    with workshop(backend, threads, provider) as made_here:
        made_here.engine(sample.name, _copied(sample))


def _copied(sample: Sample) -> ir.Model:
    return ir.Model(sample.model.graph.clone(), ir_version=sample.model.ir_version)


def _runner(sample: Sample, made_here: Workshop, stack: ExitStack) -> Callable[[], object]:
    model = _copied(sample)
    engine = made_here.engine(sample.name, model)
    inputs = {spec.name: synthetic(spec) for spec in map(value_spec, model.graph.inputs)}
    opened = stack.enter_context(OpenedEngines({sample.name: engine}))[sample.name]
    take = getattr(opened, "take", None)
    if take is not None:
        inputs = {key: take(key, array) for key, array in inputs.items()}
    return partial(opened.run, inputs)
