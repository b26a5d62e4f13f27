"""What NVIDIA's driver says of this machine: one look by ctypes, which touches no GPU's memory.

`libcuda.so.1` comes with the driver, on a server and on a Jetson alike.
"""

from __future__ import annotations

import ctypes
from ctypes import byref, c_int, c_size_t
from dataclasses import dataclass

_LIBRARY = "libcuda.so.1"
_MAJOR, _MINOR, _MULTIPROCESSORS = 75, 76, 16  # of CUdevice_attribute
_NAME_BYTES = 256


@dataclass(frozen=True)
class SeenGpu:
    """A GPU that the driver sees.

    Attributes:
        name: as the driver calls it.
        sm: compute capability, major x 10 + minor.
        memory_bytes: it has; on a Jetson shared with the CPU.
        multiprocessors: it has.
    """

    name: str
    sm: int
    memory_bytes: int
    multiprocessors: int


@dataclass(frozen=True)
class SeenDriver:
    """A driver that answers.

    Attributes:
        cuda: the newest CUDA that it knows, major x 1000 + minor x 10.
        gpus: that it sees.
    """

    cuda: int
    gpus: tuple[SeenGpu, ...]

    @property
    def release(self) -> str:
        """That CUDA, as people write it: `12.6`."""
        return f"{self.cuda // 1000}.{self.cuda % 1000 // 10}"


def seen_driver() -> SeenDriver | None:
    """The driver of this machine; None if there is none, or it does not start."""
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return None
    version, count = c_int(), c_int()
    if library.cuInit(0) or library.cuDriverGetVersion(byref(version)):
        return None
    if library.cuDeviceGetCount(byref(count)):
        return None
    return SeenDriver(version.value, tuple(_gpu(library, index) for index in range(count.value)))


def _gpu(library: ctypes.CDLL, index: int) -> SeenGpu:
    device, major, minor, many, total = c_int(), c_int(), c_int(), c_int(), c_size_t()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    library.cuDeviceGet(byref(device), index)
    library.cuDeviceGetName(name, _NAME_BYTES, device)
    library.cuDeviceGetAttribute(byref(major), _MAJOR, device)
    library.cuDeviceGetAttribute(byref(minor), _MINOR, device)
    library.cuDeviceGetAttribute(byref(many), _MULTIPROCESSORS, device)
    library.cuDeviceTotalMem_v2(byref(total), device)
    said = name.value.decode(errors="replace")
    return SeenGpu(said, 10 * major.value + minor.value, total.value, many.value)
