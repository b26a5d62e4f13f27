"""A lane: streams of the GPU with the tensors that lie there, for one control loop.

A tensor is made on the device, by an engine or from a host array, and stays there: a KV cache and
the state of a loop are never copied. Only the action, and tensors that cross the link, are copied
to the host, into pinned memory from which the wire sends. Tensors from the wire are received into
pinned memory too (`empty`), and copied to the device from there.

Lanes of one GPU read each other's tensors where they lie, from any thread: whoever makes a tensor
hands it on once its stream was waited for. So a loop and the fallback beside it share what they
remember. Copies to the host have a stream of their own, lest one wait for an engine of another.

Memory is reused by place. An output of a part has as many buffers as were held at the same time
(two if it is carried into the next trip), in the same order in every step. So engines see the same
addresses again and again, and their graphs stay valid.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Any, Protocol

import numpy as np

from vlacut.backend import Tensor
from vlacut.errors import BackendError
from vlacut_backends.cuda.driver import Driver

_CLOSE_S = 1.0


class DeviceTensor:
    """A tensor in a lane; see `vlacut.backend.Resident`. Its memory is free once nobody holds it.

    Attributes:
        lane: that made it.
        address: of the device's memory.
        nbytes: of the tensor.
    """

    def __init__(
        self, lane: Lane, buffer: _Buffer, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        self.lane = lane
        self.address = buffer.address
        self.nbytes = buffer.nbytes
        self._buffer = buffer
        self._shape = shape
        self._dtype = dtype
        self._array: np.ndarray | None = None
        self._due = -1

    @classmethod
    def of(cls, lane: Lane, buffer: _Buffer, array: np.ndarray) -> DeviceTensor:
        """One that is copied from an array, which is what the host sees of it."""
        tensor = cls(lane, buffer, array.shape, array.dtype)
        tensor._array = array
        return tensor

    def start(self) -> None:
        """See `vlacut.backend.Resident`."""
        if self._array is None and self._due < 0:
            host = self._buffer.host(self.lane, self._shape, self._dtype)
            self._due = self.lane.download(host, self.address)

    def array(self) -> np.ndarray:
        """See `vlacut.backend.Resident`. Whoever holds the array, or a view of it, holds this."""
        if self._array is not None:
            return self._array
        self.start()
        self.lane.wait_for(self._due)
        fetched = self._buffer.host(self.lane, self._shape, self._dtype).view(_Fetched)
        fetched.tensor = self
        return fetched


class _Fetched(np.ndarray):
    """A tensor in pinned memory: bytes may wait to be sent when the next trip has replaced it."""

    tensor: DeviceTensor | None = None


class _Buffer:
    """Device memory, and pinned memory of the same size once that is asked for."""

    def __init__(self, driver: Driver, nbytes: int) -> None:
        self.nbytes = nbytes
        self.address = driver.allocate(nbytes)
        self.holder: weakref.ref[DeviceTensor] | None = None
        self._pinned: np.ndarray | None = None

    @property
    def is_free(self) -> bool:
        """Whether no tensor lies there."""
        return self.holder is None or self.holder() is None

    def host(self, lane: Lane, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """The pinned side of it."""
        if self._pinned is None:
            self._pinned = lane.empty((self.nbytes,), np.dtype(np.uint8))
        return self._pinned.view(dtype).reshape(shape)


class HasSpec(Protocol):
    """An input of an engine: its shape, and its type as numpy carries it."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...


class Lane:
    """See the module. One thread uses it at a time, but for `empty`, `download` and `wait_for`.

    Attributes:
        driver: of CUDA.
        stream: that everything goes through but copies to the host.
        held: whoever uses the stream holds it.
    """

    def __init__(self, driver: Driver) -> None:
        driver.enter()
        self.driver = driver
        self.stream = driver.stream()
        self.held = threading.Lock()
        self._copying = driver.stream()
        self._copies = threading.Lock()
        self._began, self._ended = driver.event(), driver.event()
        self._buffers: dict[Hashable, list[_Buffer]] = {}
        self._graphs: set[int] = set()
        self._downloads = 0
        self._arrived = 0

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """See `vlacut.backend.Lane`."""
        self.driver.enter()
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        address = self.driver.allocate_host(nbytes)
        memory = (ctypes.c_char * max(1, nbytes)).from_address(address)
        # Freed with the last array of it, which may outlive this lane: frames are still read.
        freeing = weakref.finalize(memory, _free_host, self.driver, address)
        freeing.atexit = False
        flat: np.ndarray = np.frombuffer(memory, dtype, nbytes // dtype.itemsize)  # type: ignore[call-overload]  # ctypes arrays are buffers
        return flat.reshape(shape)

    def take(self, part: str, key: str, tensor: Tensor, port: HasSpec | None) -> DeviceTensor:
        """A tensor for an input of a part, uploaded unless it lies on this GPU.

        Args:
            part: its name, for errors.
            key: of the tensor.
            tensor: on any lane, or of the host.
            port: what the engine takes there; None for what it does not read.

        Raises BackendError where shape or type are another, or a lane was closed.
        """
        if isinstance(tensor, DeviceTensor) and tensor.lane.driver is self.driver:
            tensor.lane.check_open()
            return tensor
        self.check_open()
        self.driver.enter()
        array = tensor if isinstance(tensor, np.ndarray) else tensor.array()
        if port is not None and (array.shape != port.shape or array.dtype != port.dtype):
            raise BackendError(
                f"part {part}: {key} is {array.dtype}{list(array.shape)}, it takes "
                f"{port.dtype}{list(port.shape)}; compile or build it again"
            )
        return self.upload(key, array)

    def upload(self, key: str, array: np.ndarray) -> DeviceTensor:
        """An array on the device. It must stay as it is until the stream was waited for."""
        whole = np.require(array, requirements="C")
        buffer = self._buffer(key, whole.nbytes)
        tensor = DeviceTensor.of(self, buffer, whole)
        buffer.holder = weakref.ref(tensor)
        if whole.nbytes:
            self.driver.call(
                "cuMemcpyHtoDAsync_v2",
                tensor.address,
                whole.ctypes.data,
                whole.nbytes,
                self.stream,
            )
        return tensor

    def make(self, place: Hashable, shape: tuple[int, ...], dtype: np.dtype[Any]) -> DeviceTensor:
        """Room on the device for an output; `place` names it, and is no input's key."""
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        buffer = self._buffer(place, nbytes)
        tensor = DeviceTensor(self, buffer, shape, dtype)
        buffer.holder = weakref.ref(tensor)
        return tensor

    def _buffer(self, place: Hashable, nbytes: int) -> _Buffer:
        buffers = self._buffers.setdefault(place, [])
        for buffer in buffers:
            if buffer.is_free and buffer.nbytes == nbytes:
                return buffer
        buffers.append(_Buffer(self.driver, nbytes))
        return buffers[-1]

    def download(self, into: np.ndarray, address: int) -> int:
        """Begin to copy from the device into pinned memory; `wait_for` the number it returns.

        What is there was waited for.
        """
        self.driver.enter()
        with self._copies:
            if into.nbytes:
                self.driver.call(
                    "cuMemcpyDtoHAsync_v2", into.ctypes.data, address, into.nbytes, self._copying
                )
            self._downloads += 1
            return self._downloads

    def wait_for(self, download: int) -> None:
        """Return once a download has come in; those before it have then, too."""
        self.driver.enter()
        with self._copies:
            if download > self._arrived:
                self.driver.call("cuStreamSynchronize", self._copying)
                self._arrived = self._downloads

    def wait(self) -> None:
        """Return once everything on the stream is done."""
        self.driver.enter()
        self.driver.call("cuStreamSynchronize", self.stream)

    def capture(self, enqueue: Callable[[], None]) -> int:
        """What `enqueue` puts on the stream, as a graph. BackendError if that cannot be."""
        with self.driver.captured(self.stream) as found:
            enqueue()
        graph = self.driver.instantiate(found[0])
        self._graphs.add(graph)
        return graph

    def launch(self, graph: int) -> None:
        """Put a graph on the stream."""
        self.driver.call("cuGraphLaunch", graph, self.stream)

    def destroy_graph(self, graph: int) -> None:
        """Give a graph's memory back."""
        self._graphs.discard(graph)
        self.driver.call("cuGraphExecDestroy", graph)

    def begin_timing(self) -> None:
        """Note the time at this place of the stream."""
        self.driver.call("cuEventRecord", self._began, self.stream)

    def end_timing(self) -> None:
        """Note the time at this place of the stream."""
        self.driver.call("cuEventRecord", self._ended, self.stream)

    def timed_ns(self) -> int:
        """Nanoseconds between the two, once the stream was waited for."""
        return self.driver.elapsed_ns(self._began, self._ended)

    def close(self) -> None:
        """See `vlacut.backend.Lane`. What an engine still uses after a second is left to it."""
        if self.stream and self.held.acquire(timeout=_CLOSE_S):
            try:
                self._release()
            finally:
                self.held.release()

    def _release(self) -> None:
        self.driver.enter()
        for stream in (self.stream, self._copying):
            self.driver.call("cuStreamSynchronize", stream)
        for graph in list(self._graphs):
            self.destroy_graph(graph)
        for buffers in self._buffers.values():
            for buffer in buffers:
                self.driver.call("cuMemFree_v2", buffer.address)
        self._buffers.clear()
        for event in (self._began, self._ended):
            self.driver.call("cuEventDestroy_v2", event)
        for stream in (self.stream, self._copying):
            self.driver.call("cuStreamDestroy_v2", stream)
        self.stream = self._copying = 0

    def check_open(self) -> None:
        """Raise BackendError if it was closed."""
        if not self.stream:
            raise BackendError("the control loop of these engines was closed")


def _free_host(driver: Driver, address: int) -> None:
    driver.enter()
    driver.call("cuMemFreeHost", address)
