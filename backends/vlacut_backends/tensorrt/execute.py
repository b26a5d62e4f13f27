"""TensorRT, the run half: stdlib, numpy, TensorRT's module and the CUDA driver; Python 3.10 and up.

Engines were built here by `vlacut build`, and are deserialised once. Each control loop opens a
context per engine, and one lane for all of them: see `lane`. A run with addresses that were seen
before is launched as a CUDA graph. One engine runs at a time, in scratch memory that all share: a
GPU is not faster with two, and a server of many robots has memory for one.
"""

from __future__ import annotations

import mmap
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vlacut.backend import Lane as AnyLane
from vlacut.backend import Tensor
from vlacut.bundle.engine_records import engines_folder, find_engine
from vlacut.errors import BackendError
from vlacut_backends.cuda.driver import Driver, driver
from vlacut_backends.cuda.lane import DeviceTensor, Lane
from vlacut_backends.tensorrt.handles import logger, tensorrt
from vlacut_backends.tensorrt.key import check_recipe, engine_key

Keys = tuple[tuple[str, ...], tuple[str, ...]]  # of inputs and outputs, in an engine's order

_MOST_GRAPHS = 16  # of an engine in a loop; two of a carried state, and the variants' other homes
# numpy's carriers of TensorRT's element types, as `vlacut.tensor` has them.
_CARRIERS = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "uint16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "UINT8": "uint8",
    "FP8": "uint8",
}


@dataclass(frozen=True)
class Port:
    """An input or output of an engine, which has a name of its own for it."""

    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_input: bool
    name: str


class TensorRTExecutor:
    """Loads engines that were built on this machine.

    Raises BackendError without a driver, a GPU or TensorRT.
    """

    def __init__(self) -> None:
        self._driver = driver()
        self._trt = tensorrt()
        self._driver.enter()
        self._runtime = self._trt.Runtime(logger())
        self._scratch = Scratch(self._driver)

    def load(self, model: Path, root: Path, recipe: Mapping[str, str]) -> TensorRTEngine:
        """See `vlacut.backend.Executor`; refuses engines that were not built for this machine."""
        check_recipe(recipe, self._trt.__version__, self._driver.gpu.sm)
        key = engine_key(model, recipe, self._trt.__version__, self._driver.gpu)
        folder = engines_folder()
        if find_engine(folder, key) is None:
            raise BackendError(
                f"part {model.stem}: no engine for {self._driver.gpu}, TensorRT "
                f"{self._trt.__version__} in {folder}; run vlacut build {root} --side SIDE here"
            )
        return self.load_engine(folder / f"{key}.engine", model.stem)

    def load_engine(self, file: Path, name: str, keys: Keys | None = None) -> TensorRTEngine:
        """The engine in a file, whatever it was built for. Raises BackendError.

        `keys` are those of its inputs and of its outputs, in its order, where it has other names.
        """
        self._driver.enter()
        with (
            file.open("rb") as opened,
            mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            engine = self._runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise BackendError(f"part {name}: TensorRT cannot load {file}; build it again")
        return TensorRTEngine(self._driver, self._scratch, engine, name, keys)


class Scratch:
    """Device memory that an engine needs while it runs, large enough for the largest engine.

    Attributes:
        turn: held while an engine runs.
    """

    def __init__(self, found: Driver) -> None:
        self.turn = threading.Lock()
        self._driver = found
        self._address = 0
        self._nbytes = -1

    def reserve(self, nbytes: int) -> tuple[int, int]:
        """Address and size of at least so many bytes; call it only while holding `turn`."""
        if nbytes > self._nbytes:
            if self._address:
                self._driver.call("cuMemFree_v2", self._address)
            self._address, self._nbytes = 0, -1
            self._address = self._driver.allocate(nbytes)
            self._nbytes = nbytes
        return self._address, self._nbytes


class TensorRTEngine:
    """A part, deserialised. Run it as it is, or open it for a control loop."""

    def __init__(
        self, found: Driver, scratch: Scratch, engine: Any, name: str, keys: Keys | None = None
    ) -> None:
        self.name = name
        self.ports = _ports(engine, name)
        if keys is not None:
            self.ports = _called(self.ports, keys, name)
        self.engine = engine
        self.scratch = scratch
        self.scratch_bytes = int(engine.device_memory_size_v2)
        self._driver = found
        self._alone: OpenTensorRTEngine | None = None
        self._lock = threading.Lock()

    def open(
        self, join: Callable[[Hashable, Callable[[], AnyLane]], AnyLane]
    ) -> OpenTensorRTEngine:
        """See `vlacut.backend.DeviceEngine`."""
        lane = join(self._driver, lambda: Lane(self._driver))
        assert isinstance(lane, Lane)
        return OpenTensorRTEngine(self, lane)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `vlacut.backend.Engine`."""
        with self._lock:
            if self._alone is None:
                self._alone = OpenTensorRTEngine(self, Lane(self._driver))
            made = self._alone.run(inputs)
            for tensor in made.values():
                tensor.start()
            return {key: np.array(tensor.array()) for key, tensor in made.items()}


def _ports(engine: Any, name: str) -> tuple[Port, ...]:
    trt = tensorrt()
    found = []
    for index in range(engine.num_io_tensors):
        key = engine.get_tensor_name(index)
        kind = engine.get_tensor_dtype(key).name
        shape = tuple(int(size) for size in engine.get_tensor_shape(key))
        if kind not in _CARRIERS or min(shape, default=0) < 0:
            raise BackendError(
                f"part {name}: {key} is {kind}{list(shape)}; parts take whole bytes in fixed shapes"
            )
        is_input = engine.get_tensor_mode(key) == trt.TensorIOMode.INPUT
        found.append(Port(key, shape, np.dtype(_CARRIERS[kind]), is_input, key))
    return tuple(found)


def _called(ports: tuple[Port, ...], keys: Keys, name: str) -> tuple[Port, ...]:
    """The ports with the part's keys in the place of the engine's names."""
    found: list[Port] = []
    for which, wanted in ((True, keys[0]), (False, keys[1])):
        mine = [port for port in ports if port.is_input is which]
        if len(mine) != len(wanted):
            raise BackendError(
                f"part {name}: its engine has {len(mine)} {'inputs' if which else 'outputs'}, and "
                f"the part {len(wanted)}; it cannot be run by this back end"
            )
        found += [replace(port, key=key) for port, key in zip(mine, wanted, strict=True)]
    return tuple(found)


class OpenTensorRTEngine:
    """A part in a control loop: see `vlacut.backend.OpenEngine`."""

    def __init__(self, part: TensorRTEngine, lane: Lane) -> None:
        self.device_ns = 0
        self.captures = True
        self._part = part
        self._lane = lane
        self._inputs = {port.key: port for port in part.ports if port.is_input}
        self._outputs = [port for port in part.ports if not port.is_input]
        self._graphs: OrderedDict[tuple[int, ...], int] = OrderedDict()
        lane.driver.enter()
        strategy = tensorrt().ExecutionContextAllocationStrategy.USER_MANAGED
        self._context = part.engine.create_execution_context(strategy)
        if self._context is None:
            raise BackendError(f"part {part.name}: TensorRT has no memory for another context")

    def take(self, key: str, tensor: Tensor) -> DeviceTensor:
        """See `vlacut.backend.OpenEngine`."""
        return self._lane.take(self._part.name, key, tensor, self._inputs.get(key))

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, DeviceTensor]:
        """See `vlacut.backend.OpenEngine`."""
        lane, part = self._lane, self._part
        with lane.held:
            lane.check_open()
            lane.driver.enter()
            bound = {key: self.take(key, inputs[key]) for key in self._inputs}
            made = {
                port.key: lane.make((part.name, port.key), port.shape, port.dtype)
                for port in self._outputs
            }
            with part.scratch.turn:
                scratch = part.scratch.reserve(part.scratch_bytes)
                lane.begin_timing()
                self._launch({**bound, **made}, scratch)
                lane.end_timing()
                lane.wait()
            self.device_ns = lane.timed_ns()
            return made

    def _launch(self, tensors: Mapping[str, DeviceTensor], scratch: tuple[int, int]) -> None:
        """Put the engine on the stream: at once the first time, as a graph from the second on."""
        where = (*(tensors[port.key].address for port in self._part.ports), *scratch)
        graph = self._graphs.get(where)
        if graph:
            self._graphs.move_to_end(where)
            self._lane.launch(graph)
            return
        self._bind(tensors, scratch)
        if graph is None or not self.captures:
            # The first run of a context does what must not be captured (TensorRT's guide, "CUDA
            # Graphs"); so the graph of these addresses is for when they come again.
            self._enqueue()
            self._remember(where, 0)
        else:
            self._launch_captured(where)

    def _launch_captured(self, where: tuple[int, ...]) -> None:
        try:
            graph = self._lane.capture(self._enqueue)
        except BackendError:
            self.captures = False  # some engines cannot be: loops and shapes found at run time
            self._enqueue()
            return
        self._remember(where, graph)
        self._lane.launch(graph)

    def _remember(self, where: tuple[int, ...], graph: int) -> None:
        self._graphs[where] = graph
        if len(self._graphs) > _MOST_GRAPHS:
            _, oldest = self._graphs.popitem(last=False)
            if oldest:
                self._lane.destroy_graph(oldest)

    def _bind(self, tensors: Mapping[str, DeviceTensor], scratch: tuple[int, int]) -> None:
        self._context.set_device_memory(*scratch)
        for port in self._part.ports:
            if not self._context.set_tensor_address(port.name, tensors[port.key].address):
                raise BackendError(f"part {self._part.name}: TensorRT refuses tensor {port.key}")

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._lane.stream):
            raise BackendError(
                f"part {self._part.name}: TensorRT could not run it; its messages go to the "
                f"logger vlacut.tensorrt"
            )
