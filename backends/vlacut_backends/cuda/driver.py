"""The CUDA driver, by ctypes: the calls that running engines takes, and no more.

`libcuda.so.1` comes with the driver, on a server and on a Jetson alike, and keeps its names over
CUDA's releases; so nothing needs to be installed to match. Names and arguments are those of
NVIDIA's CUDA Driver API; a name that ends in `_v2` is what its header calls without.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p
from dataclasses import dataclass
from functools import cache
from typing import Any

from vlacut.errors import BackendError

_LIBRARY = "libcuda.so.1"
_MULTIPROCESSORS, _INTEGRATED, _MAJOR, _MINOR = 16, 18, 75, 76  # of CUdevice_attribute
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: does not wait for the legacy default stream
_PORTABLE = 1  # CU_MEMHOSTALLOC_PORTABLE
_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: what other threads do is not captured
_NAME_BYTES = 256
_ALIGNMENT = 256  # what TensorRT asks of device memory, and cuMemAlloc gives

SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDeviceTotalMem_v2": (POINTER(c_size_t), c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuCtxSetCurrent": (c_void_p,),
    "cuMemGetInfo_v2": (POINTER(c_size_t), POINTER(c_size_t)),
    "cuMemAlloc_v2": (POINTER(c_uint64), c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemHostAlloc": (POINTER(c_void_p), c_size_t, c_uint),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
    "cuStreamCreate": (POINTER(c_void_p), c_uint),
    "cuStreamSynchronize": (c_void_p,),
    "cuStreamDestroy_v2": (c_void_p,),
    "cuStreamBeginCapture_v2": (c_void_p, c_int),
    "cuStreamEndCapture": (c_void_p, POINTER(c_void_p)),
    "cuGraphInstantiateWithFlags": (POINTER(c_void_p), c_void_p, c_uint64),
    "cuGraphLaunch": (c_void_p, c_void_p),
    "cuGraphDestroy": (c_void_p,),
    "cuGraphExecDestroy": (c_void_p,),
    "cuEventCreate": (POINTER(c_void_p), c_uint),
    "cuEventRecord": (c_void_p, c_void_p),
    "cuEventElapsedTime": (POINTER(c_float), c_void_p, c_void_p),
    "cuEventDestroy_v2": (c_void_p,),
}


@dataclass(frozen=True)
class Gpu:
    """The first GPU of this machine, as far as engines depend on it.

    Attributes:
        name: as the driver calls it.
        sm: compute capability, major x 10 + minor.
        multiprocessors: how many it has; an engine is timed for them.
        cuda: the newest CUDA that the driver knows, major x 1000 + minor x 10.
        memory_bytes: memory that it has; on a Jetson the CPU shares it.
        integrated: whether it shares the CPU's memory.
    """

    name: str
    sm: int
    multiprocessors: int
    cuda: int
    memory_bytes: int
    integrated: bool

    def __str__(self) -> str:
        return f"{self.name} (sm_{self.sm}, CUDA {self.cuda // 1000}.{self.cuda % 1000 // 10})"


class Driver:
    """The driver, begun, with the first GPU's context.

    TensorRT must not be touched on a machine without a driver, where it ends the process
    (`Runtime` is an object around NULL): making one of these is the probe.

    Raises BackendError if there is no driver or no GPU. Every call raises it on CUDA's errors.
    """

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise BackendError(
                f"no NVIDIA driver on this machine ({error}); engines are built and run where the "
                f"GPU is"
            ) from error
        for name, types in SIGNATURES.items():
            function = getattr(self._library, name, None)
            if function is None:
                raise BackendError(
                    f"the NVIDIA driver of this machine has no {name}; it is older than CUDA 11.4"
                )
            function.argtypes = types
        self.call("cuInit", 0)
        if not self._made("cuDeviceGetCount", c_int()):
            raise BackendError(
                "the NVIDIA driver sees no GPU; look at CUDA_VISIBLE_DEVICES and nvidia-smi"
            )
        self._device = self._made("cuDeviceGet", c_int(), 0)
        self._context = self._made("cuDevicePrimaryCtxRetain", c_void_p(), self._device)
        self._here = threading.local()
        self.gpu = self._describe()

    def _describe(self) -> Gpu:
        name, total = ctypes.create_string_buffer(_NAME_BYTES), c_size_t()
        self.call("cuDeviceGetName", name, _NAME_BYTES, self._device)
        self.call("cuDeviceTotalMem_v2", byref(total), self._device)
        return Gpu(
            name=name.value.decode(errors="replace"),
            sm=10 * self._attribute(_MAJOR) + self._attribute(_MINOR),
            multiprocessors=self._attribute(_MULTIPROCESSORS),
            cuda=self._made("cuDriverGetVersion", c_int()),
            memory_bytes=total.value,
            integrated=bool(self._attribute(_INTEGRATED)),
        )

    def _attribute(self, which: int) -> int:
        return int(self._made("cuDeviceGetAttribute", c_int(), which, self._device))

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of SIGNATURES."""
        status = getattr(self._library, name)(*arguments)
        if status:
            text = c_char_p()
            self._library.cuGetErrorName(status, byref(text))
            raise BackendError(f"{name}: {(text.value or b'error').decode()} ({status})")

    def _made(self, function: str, into: Any, *arguments: Any) -> Any:
        """What a function writes through its first argument."""
        self.call(function, byref(into), *arguments)
        return into.value

    def enter(self) -> None:
        """Make the GPU this thread's; every thread that calls what follows must have."""
        if not getattr(self._here, "entered", False):
            self.call("cuCtxSetCurrent", self._context)
            self._here.entered = True

    def free_bytes(self) -> int:
        """Bytes of the GPU's memory that are free."""
        free, total = c_size_t(), c_size_t()
        self.call("cuMemGetInfo_v2", byref(free), byref(total))
        return free.value

    def allocate(self, nbytes: int) -> int:
        """Address of device memory, aligned to 256 bytes."""
        rounded = max(1, -(-nbytes // _ALIGNMENT)) * _ALIGNMENT
        return int(self._made("cuMemAlloc_v2", c_uint64(), rounded))

    def allocate_host(self, nbytes: int) -> int:
        """Address of pinned memory, which copies reach without a detour."""
        return int(self._made("cuMemHostAlloc", c_void_p(), max(1, nbytes), _PORTABLE))

    def stream(self) -> int:
        """A stream that waits for no other."""
        return int(self._made("cuStreamCreate", c_void_p(), _NON_BLOCKING))

    def event(self) -> int:
        """An event with a time."""
        return int(self._made("cuEventCreate", c_void_p(), 0))

    def elapsed_ns(self, start: int, stop: int) -> int:
        """Nanoseconds between two events that have happened, to about half a microsecond."""
        milliseconds = float(self._made("cuEventElapsedTime", c_float(), start, stop))
        return round(milliseconds * 1e6)

    @contextmanager
    def captured(self, stream: int) -> Iterator[list[int]]:
        """Record what the block puts on a stream instead of doing it; the list has the graph."""
        found: list[int] = []
        graph = c_void_p()
        self.call("cuStreamBeginCapture_v2", stream, _THREAD_LOCAL)
        try:
            yield found
        except BaseException:
            if not self._library.cuStreamEndCapture(stream, byref(graph)) and graph.value:
                self.call("cuGraphDestroy", graph)
            raise
        self.call("cuStreamEndCapture", stream, byref(graph))
        found.append(int(graph.value or 0))

    def instantiate(self, graph: int) -> int:
        """The executable graph for `cuGraphLaunch`; the graph itself is not needed afterwards."""
        try:
            return int(self._made("cuGraphInstantiateWithFlags", c_void_p(), graph, 0))
        finally:
            self.call("cuGraphDestroy", graph)


@cache
def driver() -> Driver:
    """The driver of this process. Raises BackendError if there is none or no GPU."""
    return Driver()
