"""ONNX Runtime on a GPU: inputs and outputs are bound to addresses in a lane's memory.

So the tensors of a control loop stay on the device between parts and trips, a carried state is
never copied, and what crosses goes through pinned memory: a lane is that of the back end TensorRT,
by the same calls of the driver. ONNX Runtime has a stream of its own, so a run begins when what is
on the lane's is done, and has ended when it returns.

Memory comes again at the same addresses, so a run of addresses seen before can be one CUDA graph of
the provider's: it has one for each annotation (`gpu_graph_id`), which here is the number of the
addresses. Where not every operator is on the GPU there are none.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from vlacut.backend import Lane as AnyLane
from vlacut.backend import Tensor
from vlacut.bundle.engine_records import engines_folder
from vlacut.errors import BackendError
from vlacut_backends.cuda.driver import Driver, driver
from vlacut_backends.cuda.lane import DeviceTensor, Lane
from vlacut_backends.onnxruntime.opening import open_session
from vlacut_backends.onnxruntime.providers import PROVIDERS, installed, not_loaded

_MOST_GRAPHS = 64  # of a part, over all control loops
_NO_GRAPH = "-1"
# Names of ONNX Runtime's, numpy's carrier, and the number of the type in ONNX.
_TYPES = {
    "tensor(float)": ("float32", 1),
    "tensor(uint8)": ("uint8", 2),
    "tensor(int8)": ("int8", 3),
    "tensor(int32)": ("int32", 6),
    "tensor(int64)": ("int64", 7),
    "tensor(bool)": ("bool", 9),
    "tensor(float16)": ("float16", 10),
    "tensor(double)": ("float64", 11),
    "tensor(bfloat16)": ("uint16", 16),
}


@dataclass(frozen=True)
class Port:
    """An input or output of a session; `kind` is the number of its type in ONNX."""

    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    kind: int


class BoundEngine:
    """A part in a session on a device. Run it as it is, or open it for a control loop.

    Args:
        session: whose tensors are there.
        name: of the part.
        driver: of CUDA.
        device: `cuda`; a test's fake has its memory on the `cpu`.
        graphs: whether the session captures CUDA graphs.
        turn: held while any part of the executor runs: a GPU is not faster at two.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        name: str,
        driver: Driver,
        device: str = "cuda",
        graphs: bool = False,
        turn: threading.Lock | None = None,
    ) -> None:
        self.session, self.name, self.driver, self.device = session, name, driver, device
        self.graphs, self.turn = graphs, turn or threading.Lock()
        self.inputs = {item.name: _port(item, name) for item in session.get_inputs()}
        self.outputs = [_port(item, name) for item in session.get_outputs()]
        self.numbers: dict[tuple[int, ...], int] = {}
        self._alone: OpenBoundEngine | None = None
        self._lock = threading.Lock()

    def open(self, join: Callable[[Hashable, Callable[[], AnyLane]], AnyLane]) -> OpenBoundEngine:
        """See `vlacut.backend.DeviceEngine`."""
        lane = join(self.driver, lambda: Lane(self.driver))
        assert isinstance(lane, Lane)
        return OpenBoundEngine(self, lane)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `vlacut.backend.Engine`."""
        with self._lock:
            if self._alone is None:
                self._alone = OpenBoundEngine(self, Lane(self.driver))
            made = self._alone.run(inputs)
            for tensor in made.values():
                tensor.start()
            return {key: np.array(tensor.array()) for key, tensor in made.items()}


def _port(item: Any, name: str) -> Port:
    shape = tuple(item.shape)
    if item.type not in _TYPES or not all(isinstance(size, int) for size in shape):
        raise BackendError(
            f"part {name}: {item.name} is {item.type}{list(shape)}; parts on a GPU take whole "
            f"bytes in fixed shapes"
        )
    dtype, kind = _TYPES[item.type]
    return Port(item.name, shape, np.dtype(dtype), kind)


class OpenBoundEngine:
    """A part in a control loop: see `vlacut.backend.OpenEngine`."""

    def __init__(self, part: BoundEngine, lane: Lane) -> None:
        self.device_ns = 0
        self._part, self._lane = part, lane

    def take(self, key: str, tensor: Tensor) -> DeviceTensor:
        """See `vlacut.backend.OpenEngine`."""
        return self._lane.take(self._part.name, key, tensor, self._part.inputs.get(key))

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, DeviceTensor]:
        """See `vlacut.backend.OpenEngine`. `device_ns` counts what the host launches, too."""
        lane, part = self._lane, self._part
        with lane.held:
            lane.check_open()
            lane.driver.enter()
            bound = {key: self.take(key, inputs[key]) for key in part.inputs}
            made = {
                port.key: lane.make((part.name, port.key), port.shape, port.dtype)
                for port in part.outputs
            }
            lane.wait()
            with part.turn:
                lane.begin_timing()
                self._launch(bound, made)
                lane.end_timing()
                lane.wait()
            self.device_ns = lane.timed_ns()
            return made

    def _launch(self, bound: Mapping[str, DeviceTensor], made: Mapping[str, DeviceTensor]) -> None:
        part = self._part
        binding, options = part.session.io_binding(), ort.RunOptions()
        try:
            for key, port in part.inputs.items():
                where = bound[key].address
                binding.bind_input(key, part.device, 0, port.kind, port.shape, where)
            for port in part.outputs:
                where = made[port.key].address
                binding.bind_output(port.key, part.device, 0, port.kind, port.shape, where)
            if part.graphs:
                options.add_run_config_entry("gpu_graph_id", self._graph_of(bound, made))
            part.session.run_with_iobinding(binding, options)
        except Exception as error:  # its own exceptions share no base but this
            raise BackendError(f"part {part.name}: ONNX Runtime failed: {error}") from error

    def _graph_of(self, bound: Mapping[str, DeviceTensor], made: Mapping[str, DeviceTensor]) -> str:
        """The number of these addresses, in turn; of those that come too late, no graph."""
        numbers = self._part.numbers
        addresses = tuple(tensor.address for tensor in (*bound.values(), *made.values()))
        if addresses not in numbers and len(numbers) >= _MOST_GRAPHS:
            return _NO_GRAPH
        return str(numbers.setdefault(addresses, 1 + len(numbers)))


def load_bound(
    model: Path, root: Path, recipe: Mapping[str, str], provider: str, turn: threading.Lock
) -> BoundEngine:
    """The engine of a part by a provider of a GPU; with CUDA graphs where they can be had.

    Raises BackendError if it cannot be loaded, or ONNX Runtime would run it elsewhere.
    """
    preload = getattr(ort, "preload_dlls", None)
    if preload is not None:  # CUDA's libraries may be packages of Python's
        preload()
    data = model.read_bytes()
    for graphs in (provider == "cuda", False):
        listed = _providers(provider, data, recipe, graphs)
        try:
            session = open_session(data, str(model), recipe, root, listed)
        except BackendError:
            if not graphs:
                raise
            continue  # there are none where an operator is on the CPU
        if session.get_providers()[0] != PROVIDERS[provider]:
            raise not_loaded(provider)
        return BoundEngine(session, model.stem, driver(), graphs=graphs, turn=turn)
    raise not_loaded(provider)


def _providers(
    provider: str, model: bytes, recipe: Mapping[str, str], graphs: bool
) -> list[tuple[str, dict[str, str]]]:
    """Providers in order, with their options; CUDA takes what TensorRT leaves, and the CPU that."""
    # tf32 rounds products of float32 to ten bits: the bound of a bundle does not allow for that.
    cuda = {"device_id": "0", "use_tf32": "0", "enable_cuda_graph": str(int(graphs))}
    listed = [(PROVIDERS["cuda"], cuda), (PROVIDERS["cpu"], {})]
    if provider == "tensorrt":
        kept = engines_folder() / "onnxruntime" / cache_key(model, recipe)
        kept.mkdir(parents=True, exist_ok=True)
        options = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(kept)}
        listed.insert(0, (PROVIDERS[provider], {"device_id": "0", **options}))
    return listed


def cache_key(model: bytes, recipe: Mapping[str, str]) -> str:
    """The folder of what the TensorRT provider built of a part on this machine."""
    gpu = driver().gpu
    depends = {
        "part": hashlib.sha256(model).hexdigest(),
        "recipe": dict(recipe),
        "onnxruntime": ort.__version__,
        "tensorrt": installed("tensorrt"),
        "cuda": gpu.cuda,
        "gpu": [gpu.name, gpu.sm, gpu.multiprocessors],
    }
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()
