"""What this machine can run: its processor and GPUs, its back ends, and a bundle held to them."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence

from vlacut import registry
from vlacut.backend import Diagnosis
from vlacut.bundle.opened import Bundle
from vlacut.hardware import Side
from vlacut.hardware.driver import seen_driver

Row = tuple[str, Diagnosis]  # and of what: the machine, a back end, or a side


def diagnose(bundle: Bundle | None = None, sides: Sequence[Side] = tuple(Side)) -> list[Row]:
    """What was found, the machine first; see `lacking`.

    Args:
        bundle: whose recipes the back ends are held against; None for all back ends as they are.
        sides: of the bundle that this machine is to be.
    """
    rows = [("machine", one) for one in _machine()]
    if bundle is None:
        return rows + [
            (name, one) for name in registry.names("doctors") for one in _examined(name, None)
        ]
    return rows + [
        (side.value, one)
        for side in sides
        for one in _examined(bundle.backend(side), bundle.recipe(side))
    ]


def lacking(rows: Iterable[Row]) -> bool:
    """Whether a side of the bundle cannot run here."""
    sides = [side.value for side in Side]
    return any(of in sides and one.needed and not one.well for of, one in rows)


def _machine() -> Iterator[Diagnosis]:
    nbytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    here = f"{os.cpu_count()} cores, {_gigabytes(nbytes)}, Python {platform.python_version()}"
    yield Diagnosis(platform.machine(), here, True)
    driver = seen_driver()
    if driver is None:
        follows = "with an NVIDIA GPU, install its driver: nvidia-smi must answer"
        yield Diagnosis("NVIDIA driver", "none", True, follows, needed=False)
        return
    yield Diagnosis("NVIDIA driver", f"knows CUDA up to {driver.release}", True)
    for number, gpu in enumerate(driver.gpus):
        told = f"{gpu.name}, sm_{gpu.sm}, {_gigabytes(gpu.memory_bytes)}"
        yield Diagnosis(f"GPU {number}", told, True)
    if not driver.gpus:
        yield Diagnosis("GPU", "none is seen", False, "look at CUDA_VISIBLE_DEVICES and nvidia-smi")


def _examined(name: str, recipe: Mapping[str, str] | None) -> Iterable[Diagnosis]:
    if name not in registry.names("doctors"):
        return [Diagnosis(name, "says nothing of what it needs", True)]
    found: Iterable[Diagnosis] = registry.load("doctors", name)().examine(recipe)
    return found


def _gigabytes(nbytes: int) -> str:
    return f"{nbytes / 1e9:.3g} GB"
