"""Calibration: this machine as a device profile, measured through the back end of its engines."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from itertools import islice

import onnx_ir as ir

from vlacut.errors import Progress, unwatched
from vlacut.hardware import KINDS, Device, Profile, Stack
from vlacut.ir.annotation import KERNEL
from vlacut.ir.graphs import value_spec
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Phase, Program
from vlacut.measurement.calibration.blocks import FAMILY_SIZES, blocks
from vlacut.measurement.calibration.chain import Sample
from vlacut.measurement.calibration.codecs import measure_codecs
from vlacut.measurement.calibration.codes import FORMS, products_of_codes
from vlacut.measurement.calibration.fitting import Fit, fit
from vlacut.measurement.calibration.machine import (
    Choice,
    MeasuredMachine,
    choose_back_end,
    measured_machine,
)
from vlacut.measurement.calibration.measuring import can_run, measure_samples
from vlacut.measurement.calibration.predicting import Observation
from vlacut.measurement.calibration.samples import sampling_plan
from vlacut.pricing.roofline import Kernel


@dataclass(frozen=True)
class Calibration:
    """What calibrating found.

    Attributes:
        profile: the machine, for `profile_text`.
        fit: the parameters, with their spread.
        observations: what was measured.
        background_load: share of all processors that other processes had meanwhile; None if the
            system does not tell.
        choice: the back end that measured, and what others lack.
        machine: that was measured.
    """

    profile: Profile
    fit: Fit
    observations: tuple[Observation, ...]
    background_load: float | None = None
    choice: Choice | None = None
    machine: MeasuredMachine | None = None


def calibrate(
    name: str,
    backend: str,
    turns: int,
    threads: int = 0,
    progress: Progress = unwatched,
    provider: str = "",
) -> Calibration:
    """Measure this machine, and fit a profile of that name to it; its codecs are timed, too.

    Products of codes in a form that the back end does not have are left out.

    Args:
        name: the device's name.
        backend: the back end that builds and runs the samples; empty for the first of ONNX Runtime
            and PyTorch that is here and has the provider.
        turns: how often every sample is measured.
        threads: threads of an engine; 0 for as many as the back end takes.
        progress: called with what is being done, how much is done, and how much there is.
        provider: that the back end is to take, and no other; empty for its own choice of one on the
            CPU.

    Raises InputError if the back end runs nothing here or has no such provider, BackendError if it
    cannot run a sample, or if none is named and none can, with what each of them lacks.
    """
    choice = choose_back_end(backend, provider, threads, next(iter(sampling_plan())))
    backend = choice.backend
    samples = calibration_samples(forms_of(backend, threads, provider))
    measured = measure_samples(samples, backend, turns, threads, progress, provider)
    progress("fit", 0, 1)
    # On a machine that others use too, the shortest turn is what the machine can do.
    shortest = [found.shortest for found in measured]
    fitted = fit_profile(name, backend, turns, threads, samples, shortest, provider)
    codecs = measure_codecs(_codecs_source(), progress=progress)
    profile = replace(fitted.profile, device=replace(fitted.profile.device, codecs=codecs))
    load = measured[0].background_load
    return replace(fitted, profile=profile, background_load=load, choice=choice)


def forms_of(backend: str, threads: int = 0, provider: str = "") -> tuple[str, ...]:
    """The forms of products of codes that a back end has, see `Kernel.form`."""
    smallest = {form: next(products_of_codes((form,))) for form in FORMS}
    return tuple(form for form, one in smallest.items() if can_run(one, backend, threads, provider))


def calibration_samples(forms: Sequence[str] = FORMS) -> tuple[Sample, ...]:
    """What is measured: chains of one kind of operator, products of codes, then whole blocks."""
    return (*sampling_plan(), *products_of_codes(forms), *blocks())


def fit_profile(
    name: str,
    backend: str,
    turns: int,
    threads: int,
    samples: Sequence[Sample],
    seconds: Sequence[float],
    provider: str = "",
) -> Calibration:
    """Fit a profile of that name to the seconds that `calibration_samples` took.

    The first four arguments and the last are those of `calibrate`; they say how the seconds were
    measured.
    """
    observations = tuple(observe(samples, seconds))
    operators, *families = _by_family(observations)
    machine = measured_machine(provider, threads)
    found = fit(operators, families, starting_device(name, backend, machine))
    how = f"{backend} {_version(backend)}{f', provider {provider}' if provider else ''}"
    sources = sources_of(how, len(samples), turns, machine)
    device = replace(found.device, source=sources)
    stack = replace(device.stack, source=device.source["peak"])
    device = replace(device, stack=stack)
    profile = Profile(device, "", {}, {stack.name: stack})
    return Calibration(profile, replace(found, device=device), observations, machine=machine)


def _by_family(observations: Sequence[Observation]) -> Iterator[tuple[Observation, ...]]:
    """Those of operators, then those of every family of blocks."""
    rest = iter(observations)
    yield tuple(islice(rest, len(observations) - sum(FAMILY_SIZES)))
    for size in FAMILY_SIZES:
        yield tuple(islice(rest, size))


def observe(samples: Iterable[Sample], seconds: Iterable[float]) -> Iterable[Observation]:
    """What samples took, with the kernels that `annotate-cost` sees in them."""
    annotate = parse_pipeline("annotate-cost")
    for sample, took in zip(samples, seconds, strict=True):
        graph = sample.model.graph
        inputs, outputs = (tuple(map(value_spec, side)) for side in (graph.inputs, graph.outputs))
        annotate.run(Program("sample", (Phase("sample", sample.model),), inputs, outputs))
        weights = sum(value_spec(value).nbytes for value in graph.initializers.values())
        yield Observation(sample.name, kernels_of(graph), weights, took)


def kernels_of(graph: ir.Graph) -> tuple[Kernel, ...]:
    """The kernels that `annotate-cost` wrote on the operators of a graph, in order."""
    found = (KERNEL.find(node) for node in graph)
    return tuple(kernel for kernel in found if kernel is not None)


def starting_device(name: str, backend: str, machine: MeasuredMachine) -> Device:
    """A machine to start the fit from; of its figures, these are not fitted:

    memory_bytes and multiprocessors (the system or the driver knows them), and the parts of
    attention, which no opset before 23 has as an operator: those of the products that it is made
    of.
    """
    whole = {"gemm": 1.0, "attention": 1.0}
    stack = Stack(
        name=backend,
        fusion="none",
        tf32=False,
        host_s=0.0,
        launch_s=3e-7,
        half_bytes=0.0,
        half_tile=0.0,
        half_depth=1.0,
        spread=0.1,
        compute={**dict.fromkeys(KINDS[:-1], 0.05), "conv": 0.5, **whole},
        memory={**dict.fromkeys(KINDS, 0.5), "gemm.vector": 1.0},
        source="assumed, to start a fit from",
        overlap=0.5,
        packs=True,
        batch_s=1e-7,
        call_s=4e-6,
    )
    return Device(
        name=name,
        peak={"float32": 1e11 * machine.multiprocessors},
        memory_bandwidth=2e10,
        memory_bytes=machine.memory_bytes,
        cache_bytes=16_000_000,
        cache_bandwidth=1e11,
        multiprocessors=machine.multiprocessors,
        stack=stack,
        source={},
        cuda=machine.cuda,
    )


def sources_of(how: str, samples: int, turns: int, machine: MeasuredMachine) -> dict[str, str]:
    """Where every figure of the profile is from."""
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    fitted = (
        f"fitted by vlacut calibrate to {samples} graphs run by {how} on "
        f"{platform.node()} ({machine.what}, {platform.system()} {platform.release()}), {now}, "
        f"{turns} turns"
    )
    told = f"compute capability: {machine.source}; releases of TensorRT as of {machine.like}"
    cuda = {"cuda": told} if machine.cuda is not None else {}
    figures = ("peak", "memory_bandwidth", "cache_bytes", "cache_bandwidth")
    return {
        **dict.fromkeys(figures, fitted),
        "memory_bytes": f"{machine.source}, {now}",
        "multiprocessors": f"{machine.source}, {now}; of a processor, threads of an engine",
        **cuda,
    }


def _codecs_source() -> str:
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    cpu = platform.processor() or platform.machine()
    return f"vlacut calibrate on {platform.node()} ({cpu}), {now}: shortest of the thread's clock"


def _version(backend: str) -> str:
    try:
        return version(backend)
    except PackageNotFoundError:
        return version("vlacut")
