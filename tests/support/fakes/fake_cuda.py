"""The slice of the CUDA driver that `vlacut_backends.cuda.driver` calls, on the host.

As on a GPU, nothing on a stream happens before the stream is waited for: until then an output is
what was there before, and a copy has not come. Memory that was freed is poisoned and may not be
used, graphs hold addresses, and a call without a context fails.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from typing import Any

SUCCESS, INVALID_VALUE, NO_DEVICE, INVALID_CONTEXT = 0, 1, 100, 201
CAPTURE_INVALIDATED = 901
_NAMES = {
    INVALID_VALUE: b"CUDA_ERROR_INVALID_VALUE",
    NO_DEVICE: b"CUDA_ERROR_NO_DEVICE",
    INVALID_CONTEXT: b"CUDA_ERROR_INVALID_CONTEXT",
    CAPTURE_INVALIDATED: b"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
}
_POISON = 0xCD
Work = Callable[[], None]


def plain(value: Any) -> Any:
    """What ctypes would pass: the value of one of its objects, None as 0."""
    return (value.value if hasattr(value, "value") else value) or 0


class FakeDriver:
    """`libcuda.so.1`. Figures of an A100 unless the environment says otherwise (FAKE_SM, ...)."""

    def __init__(self) -> None:
        self.sm = int(os.environ.get("FAKE_SM", "80"))
        self.count = int(os.environ.get("FAKE_GPUS", "1"))
        self.free = int(os.environ.get("FAKE_FREE_BYTES", str(40 << 30)))
        self.captures = os.environ.get("FAKE_CAPTURES", "1") == "1"
        self.begun = False
        self.queues: dict[int, list[Work]] = {}
        self.capturing: dict[int, list[Work]] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.launched: dict[int, list[Work]] = {}
        self.events: dict[int, int] = {}
        self.device: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self.host: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self.calls: list[str] = []
        self._next = 1000
        self._current = threading.local()

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu"):
            raise AttributeError(name)
        act = getattr(type(self), f"_{name.removesuffix('_v2')}", None)
        if act is None:
            raise AttributeError(name)
        free = ("cuInit", "cuDevice", "cuDriver", "cuGetError", "cuCtxSet")

        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if not name.startswith(free) and not getattr(self._current, "set", False):
                return INVALID_CONTEXT
            return act(self, *map(_unwrapped, arguments)) or SUCCESS

        call.__name__ = name
        setattr(self, name, call)
        return call

    def handle(self) -> int:
        self._next += 1
        return self._next

    def on_stream(self, stream: int, work: Work) -> None:
        """What runs once the stream is waited for, or is captured."""
        self.capturing.get(stream, self.queues[stream]).append(work)

    def checked(self, address: int, nbytes: int) -> int:
        """An address that lies in device memory with so much behind it."""
        for start, memory in self.device.items():
            if start <= address and address + nbytes <= start + len(memory):
                return address
        raise AssertionError(f"{nbytes} bytes at {address:#x} are not in device memory")

    def _cuInit(self, flags: int) -> int:
        self.begun = True
        return SUCCESS if self.count else NO_DEVICE

    def _cuDriverGetVersion(self, into: Any) -> None:
        into.value = 12060

    def _cuGetErrorName(self, status: int, into: Any) -> None:
        into.value = _NAMES.get(status, b"CUDA_ERROR_UNKNOWN")

    def _cuDeviceGetCount(self, into: Any) -> None:
        into.value = self.count

    def _cuDeviceGet(self, into: Any, ordinal: int) -> None:
        into.value = ordinal

    def _cuDeviceGetName(self, into: Any, nbytes: int, device: int) -> None:
        into.value = b"Fake GPU"

    def _cuDeviceGetAttribute(self, into: Any, which: int, device: int) -> None:
        into.value = {75: self.sm // 10, 76: self.sm % 10, 16: 108, 18: 0}[which]

    def _cuDeviceTotalMem(self, into: Any, device: int) -> None:
        into.value = 40 << 30

    def _cuDevicePrimaryCtxRetain(self, into: Any, device: int) -> None:
        into.value = 1

    def _cuCtxSetCurrent(self, context: int) -> None:
        assert context == 1
        self._current.set = True

    def _cuMemGetInfo(self, free: Any, total: Any) -> None:
        free.value, total.value = self.free, 40 << 30

    def _cuMemAlloc(self, into: Any, nbytes: int) -> int:
        return self._allocate(self.device, into, nbytes)

    def _cuMemHostAlloc(self, into: Any, nbytes: int, flags: int) -> int:
        return self._allocate(self.host, into, nbytes)

    def _allocate(self, where: dict[int, Any], into: Any, nbytes: int) -> int:
        if not nbytes:
            return INVALID_VALUE
        memory = ctypes.create_string_buffer(nbytes + 256)
        ctypes.memset(memory, _POISON, nbytes)
        address = -(-ctypes.addressof(memory) // 256) * 256
        where[address] = (ctypes.c_char * nbytes).from_buffer(
            memory, address - ctypes.addressof(memory)
        )
        into.value = address
        return SUCCESS

    def _cuMemFree(self, address: int) -> int:
        return self._release(self.device, address)

    def _cuMemFreeHost(self, address: int) -> int:
        return self._release(self.host, address)

    def _release(self, where: dict[int, Any], address: int) -> int:
        memory = where.pop(address, None)
        if memory is None:
            return INVALID_VALUE
        ctypes.memset(memory, _POISON, len(memory))
        return SUCCESS

    def _cuMemcpyHtoDAsync(self, to: int, source: int, nbytes: int, stream: int) -> None:
        self.on_stream(stream, lambda: ctypes.memmove(self.checked(to, nbytes), source, nbytes))

    def _cuMemcpyDtoHAsync(self, to: int, source: int, nbytes: int, stream: int) -> None:
        self.on_stream(stream, lambda: ctypes.memmove(to, self.checked(source, nbytes), nbytes))

    def _cuStreamCreate(self, into: Any, flags: int) -> None:
        into.value = self.handle()
        self.queues[into.value] = []

    def _cuStreamSynchronize(self, stream: int) -> int:
        if stream in self.capturing:
            return CAPTURE_INVALIDATED
        queue = self.queues[stream]
        while queue:
            queue.pop(0)()
        return SUCCESS

    def _cuStreamDestroy(self, stream: int) -> None:
        del self.queues[stream]

    def _cuStreamBeginCapture(self, stream: int, mode: int) -> None:
        self.capturing[stream] = []

    def _cuStreamEndCapture(self, stream: int, into: Any) -> int:
        captured = self.capturing.pop(stream)
        if not self.captures:
            into.value = None
            return CAPTURE_INVALIDATED
        into.value = self.handle()
        self.graphs[into.value] = captured
        return SUCCESS

    def _cuGraphInstantiateWithFlags(self, into: Any, graph: int, flags: int) -> None:
        into.value = self.handle()
        self.launched[into.value] = self.graphs[graph]

    def _cuGraphLaunch(self, graph: int, stream: int) -> None:
        for work in self.launched[graph]:
            self.on_stream(stream, work)

    def _cuGraphDestroy(self, graph: int) -> None:
        del self.graphs[graph]

    def _cuGraphExecDestroy(self, graph: int) -> None:
        del self.launched[graph]

    def _cuEventCreate(self, into: Any, flags: int) -> None:
        into.value = self.handle()
        self.events[into.value] = 0

    def _cuEventRecord(self, event: int, stream: int) -> None:
        def record() -> None:
            self.events[event] = time.perf_counter_ns()

        self.on_stream(stream, record)

    def _cuEventElapsedTime(self, into: Any, start: int, stop: int) -> None:
        into.value = (self.events[stop] - self.events[start]) * 1e-6

    def _cuEventDestroy(self, event: int) -> None:
        del self.events[event]


def _unwrapped(argument: Any) -> Any:
    """What a pointer points to, so that it can be written; else the plain value."""
    if hasattr(argument, "_obj"):  # of ctypes.byref
        return argument._obj
    if isinstance(argument, ctypes.Array):  # a buffer
        return argument
    return plain(argument)
