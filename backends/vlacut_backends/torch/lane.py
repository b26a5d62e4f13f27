"""PyTorch on a GPU: the tensors of a control loop stay there, and runs become CUDA graphs.

A tensor is made on the device, by a part or from a host array, and comes to the host when somebody
asks for it, into pinned memory. What comes over the wire is received into pinned memory too. Memory
is PyTorch's own to give out again.

A part's first run is operator by operator, its second is captured (PyTorch's guide, "CUDA Graphs":
a graph reads and writes the same addresses each time). So what a graph reads is copied to where it
reads, on the device, and what it makes is copied from there; a run without a graph copies nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from vlacut.backend import Lane, Tensor
from vlacut.errors import BackendError
from vlacut_backends.aten.module import PartModule
from vlacut_backends.aten.weights import to_array, to_tensor
from vlacut_backends.torch.computing import compute

_log = logging.getLogger("vlacut.torch")


class Gpu:
    """What of PyTorch's CUDA a lane uses."""

    device = torch.device("cuda")

    def stream(self) -> Any:
        """A stream of its own."""
        made: Any = torch.cuda.Stream
        return made()

    def on(self, stream: Any) -> AbstractContextManager[object]:
        """While entered, work goes to a stream."""
        found: AbstractContextManager[object] = torch.cuda.stream(stream)
        return found

    def event(self) -> Any:
        """An event with a time."""
        made: Any = torch.cuda.Event
        return made(enable_timing=True)

    def pinned(self, nbytes: int) -> torch.Tensor:
        """Bytes in host memory that copies reach without a detour."""
        return torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)

    def captured(self, run: Callable[[], tuple[torch.Tensor, ...]], stream: Any) -> Any:
        """A graph of what `run` puts on a stream, and the outputs that it writes."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            made = run()
        return graph, made


class TorchLane:
    """A stream with the tensors of one control loop; see `vlacut.backend.Lane`."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu, self.stream = gpu, gpu.stream()
        self.copying = gpu.stream()  # to the host, from any thread: what is copied was waited for
        self.began, self.ended = gpu.event(), gpu.event()
        self.held = threading.Lock()
        self.closed = False

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """See `vlacut.backend.Lane`."""
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        return self.gpu.pinned(nbytes).numpy().view(dtype).reshape(shape)

    def close(self) -> None:
        """See `vlacut.backend.Lane`."""
        with self.held:
            self.stream.synchronize()
            self.copying.synchronize()
            self.closed = True


class DeviceTensor:
    """A tensor in a lane; see `vlacut.backend.Resident`."""

    def __init__(self, lane: TorchLane, tensor: torch.Tensor) -> None:
        self.lane, self.tensor = lane, tensor
        self.nbytes = tensor.numel() * tensor.element_size()
        self._host: torch.Tensor | None = None
        self._copied: Any = None

    def start(self) -> None:
        """See `vlacut.backend.Resident`."""
        if self._host is None:
            lane = self.lane
            with lane.gpu.on(lane.copying):
                whole = self.tensor.contiguous()
                host = lane.gpu.pinned(self.nbytes).view(whole.dtype).view(whole.shape)
                host.copy_(whole, non_blocking=True)
                self._copied = lane.gpu.event()
                self._copied.record(lane.copying)
            self._host = host

    def array(self) -> np.ndarray:
        """See `vlacut.backend.Resident`; its memory is the array's own."""
        self.start()
        self._copied.synchronize()
        assert self._host is not None
        return to_array(self._host)


class DeviceTorchEngine:
    """A part as a module on a GPU. Run it as it is, or open it for a control loop."""

    def __init__(self, module: PartModule, name: str, gpu: Gpu | None = None) -> None:
        self.module, self.name = module, name
        self.gpu = gpu or _GPU
        self._alone: OpenTorchEngine | None = None
        self._lock = threading.Lock()

    def open(self, join: Callable[[Hashable, Callable[[], Lane]], Lane]) -> OpenTorchEngine:
        """See `vlacut.backend.DeviceEngine`."""
        lane = join(self.gpu, lambda: TorchLane(self.gpu))
        assert isinstance(lane, TorchLane)
        return OpenTorchEngine(self, lane)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `vlacut.backend.Engine`."""
        with self._lock:
            if self._alone is None:
                self._alone = OpenTorchEngine(self, TorchLane(self.gpu))
            made = self._alone.run(inputs)
            for tensor in made.values():
                tensor.start()
            return {key: tensor.array() for key, tensor in made.items()}


class OpenTorchEngine:
    """A part in a control loop: see `vlacut.backend.OpenEngine`."""

    def __init__(self, engine: DeviceTorchEngine, lane: TorchLane) -> None:
        self.device_ns = 0
        self.captures = True
        self._engine, self._lane = engine, lane
        self._runs = 0
        self._graph: Any = None
        self._read: list[torch.Tensor] = []
        self._written: tuple[torch.Tensor, ...] = ()

    def take(self, key: str, tensor: Tensor) -> DeviceTensor:
        """See `vlacut.backend.OpenEngine`. An array stays as it is until the next run is over."""
        lane = self._lane
        if isinstance(tensor, DeviceTensor) and tensor.lane.gpu is lane.gpu:
            return tensor  # of another lane too: whoever made it has waited for it
        array = tensor if isinstance(tensor, np.ndarray) else tensor.array()
        dtype = self._engine.module.inputs.get(key)
        if dtype is None:
            raise BackendError(f"part {self._engine.name}: it has no input {key}")
        with lane.gpu.on(lane.stream):
            there = to_tensor(array, dtype).to(lane.gpu.device, non_blocking=True)
        return DeviceTensor(lane, there)

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, DeviceTensor]:
        """See `vlacut.backend.OpenEngine`."""
        lane, module = self._lane, self._engine.module
        with lane.held:
            if lane.closed:
                raise BackendError("the control loop of these engines was closed")
            given = [self.take(key, inputs[key]).tensor for key in module.inputs]
            with lane.gpu.on(lane.stream):
                lane.began.record(lane.stream)
                made = self._computed(given)
                lane.ended.record(lane.stream)
            lane.stream.synchronize()
            self.device_ns = round(lane.began.elapsed_time(lane.ended) * 1e6)
        return {
            key: DeviceTensor(lane, tensor)
            for key, tensor in zip(module.outputs, made, strict=True)
        }

    def _computed(self, given: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        self._runs += 1
        if self._graph is None and self._runs > 1 and self.captures:
            self._capture(given)
        if self._graph is None:
            return compute(self._engine.module, given, self._engine.name)
        with torch.inference_mode():
            for here, there in zip(given, self._read, strict=True):
                if here.data_ptr() != there.data_ptr():
                    there.copy_(here, non_blocking=True)
            self._graph.replay()
            return tuple(tensor.clone() for tensor in self._written)

    def _capture(self, given: list[torch.Tensor]) -> None:
        engine, lane = self._engine, self._lane
        with torch.inference_mode():
            self._read = [tensor.clone() for tensor in given]
        try:
            self._graph, self._written = lane.gpu.captured(
                lambda: compute(engine.module, self._read, engine.name), lane.stream
            )
        except Exception as error:  # torch's own exceptions share no base but this
            # Some operators cannot be captured: those that wait for the host.
            _log.info("part %s runs without a CUDA graph: %s", engine.name, error)
            self.captures, self._read = False, []


_GPU = Gpu()
