"""The machine that is measured: the processor or the GPU, and the back end that is there for it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass

from vlacut import registry
from vlacut.errors import BackendError, InputError, UnsupportedError
from vlacut.hardware import Cuda, device_names, load_device
from vlacut.hardware.driver import SeenGpu, seen_driver
from vlacut.measurement.calibration.chain import Sample
from vlacut.measurement.calibration.measuring import check_runs

_CANDIDATES = ("onnxruntime", "torch")  # in this order, where the user names none
_ON_GPU = ("cuda", "tensorrt")


@dataclass(frozen=True)
class MeasuredMachine:
    """What is measured, with the figures that are asked for and not fitted.

    Attributes:
        what: for people.
        memory_bytes: it has.
        multiprocessors: of a GPU; of a processor the threads of an engine.
        source: of these two.
        cuda: what engines of TensorRT depend on; None of a processor, and of a GPU that no profile
            of the package is like.
        like: the profile whose releases of TensorRT these are.
    """

    what: str
    memory_bytes: int
    multiprocessors: int
    source: str
    cuda: Cuda | None = None
    like: str = ""


@dataclass(frozen=True)
class Choice:
    """The back end that measures.

    Attributes:
        backend: its name.
        missing: why those before it cannot, a line each that says what to install.
    """

    backend: str
    missing: tuple[str, ...] = ()


def choose_back_end(backend: str, provider: str, threads: int, smallest: Sample) -> Choice:
    """The back end that is asked for, or the first that runs a sample by a provider here.

    Raises InputError if the one that is asked for measures nothing, UnsupportedError, with a reason
    for each, if none is asked for and none can.
    """
    if backend in registry.names("engine_builders"):
        raise InputError(
            f"--backend {backend}: engines of it are built from bundles alone; measure the GPU "
            f"with --provider cuda, then vlacut profile a bundle of {backend}"
        )
    if backend:
        return Choice(backend)
    missing: list[str] = []
    for name in _CANDIDATES:
        try:
            check_runs(smallest, name, threads, provider)
        except (BackendError, InputError) as error:
            missing.append(f"{name}: {error}")
        else:
            return Choice(name, tuple(missing))
    asked = f"--provider {provider}" if provider else "calibrate"
    raise UnsupportedError(f"{asked}: no back end here can measure it: {'; '.join(missing)}")


def measured_machine(provider: str, threads: int) -> MeasuredMachine:
    """The machine that a provider runs on; `threads` of an engine, 0 for all of the processor."""
    gpu = seen_gpu() if provider in _ON_GPU else None
    if gpu is not None:
        like = next(_alike(gpu), "")
        return MeasuredMachine(
            what=f"{gpu.name}, sm_{gpu.sm}",
            memory_bytes=gpu.memory_bytes,
            multiprocessors=gpu.multiprocessors,
            source=f"NVIDIA's driver on {platform.node()}, of {gpu.name}",
            cuda=load_device(like).cuda if like else None,
            like=like,
        )
    return MeasuredMachine(
        what=platform.processor() or platform.machine(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        multiprocessors=threads or os.cpu_count() or 1,
        source=f"the operating system of {platform.node()}",
    )


def seen_gpu() -> SeenGpu | None:
    """The GPU that engines here run on, the driver's first; None without one."""
    driver = seen_driver()
    return driver.gpus[0] if driver is not None and driver.gpus else None


def _alike(gpu: SeenGpu) -> Iterator[str]:
    """The profiles of the package whose GPU has the same compute capability."""
    for name in device_names():
        cuda = load_device(name).cuda
        if cuda is not None and cuda.sm == gpu.sm:
            yield name
