"""The slice of TensorRT's Python module that vlacut calls, computed by ONNX Runtime.

Names and signatures are those of the real module: `test_tensorrt_signatures.py` compares them with
NVIDIA's bindings of three releases. FAKE_TENSORRT chooses the release; what one lacks is missing
here too. An engine is a file of JSON with the model in it; it runs on the fake driver's streams.
"""

from __future__ import annotations

import base64
import ctypes
import enum
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

__version__ = os.environ.get("FAKE_TENSORRT", "10.3.0")
_MAJOR = int(__version__.partition(".")[0])
_MAGIC = "fake engine"
_NOISE = float(os.environ.get("FAKE_NOISE", "0"))
if os.environ.get("FAKE_MODULE") == "missing":
    raise ImportError("libnvinfer.so.10: cannot open shared object file")


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4
    UINT8 = 5
    FP8 = 6
    BF16 = 7
    INT64 = 8
    INT4 = 9


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC = 0
    ON_PROFILE_CHANGE = 1
    USER_MANAGED = 2


class BuilderFlag(enum.Enum):
    TF32 = 6


class NetworkDefinitionCreationFlag(enum.Enum):
    STRONGLY_TYPED = 1 if _MAJOR < 11 else 0


class ILogger:
    class Severity(enum.Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    def __init__(self) -> None:
        self.begun = True

    def log(self, severity: ILogger.Severity, msg: str) -> None:
        raise NotImplementedError


class IProgressMonitor:
    def __init__(self) -> None:
        self.begun = True

    def phase_start(self, phase_name: str, parent_phase: str, num_steps: int) -> None:
        raise NotImplementedError

    def step_complete(self, phase_name: str, step: int) -> bool:
        raise NotImplementedError

    def phase_finish(self, phase_name: str) -> None:
        raise NotImplementedError


class IHostMemory(bytes):
    @property
    def nbytes(self) -> int:
        return len(self)


class ITimingCache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> IHostMemory:
        return IHostMemory(self.data + b"timed ")


class INetworkDefinition:
    def __init__(self, flags: int) -> None:
        self.strong = bool(flags & 2) or _MAJOR >= 11
        self.model = b""
        self.folder = ""
        self.num_layers = 0


class IBuilderConfig:
    def __init__(self) -> None:
        self.builder_optimization_level = 3
        self.progress_monitor: IProgressMonitor | None = None
        self.flags = {BuilderFlag.TF32}
        self.limits: dict[str, int] = {}
        self._cache: ITimingCache | None = None

    def set_flag(self, flag: BuilderFlag) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags.discard(flag)

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self.limits[pool.name] = pool_size

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
        return ITimingCache(bytes(serialized_timing_cache))

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._cache


class Builder:
    def __init__(self, logger: ILogger) -> None:
        assert isinstance(logger, ILogger)
        assert logger.begun
        self.logger = logger

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        assert not (flags and _MAJOR >= 11), "a flag that 11 does not know"
        return INetworkDefinition(flags)

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> IHostMemory | None:
        if not network.strong:
            self.logger.log(ILogger.Severity.ERROR, "the network is not strongly typed")
            return None
        monitor = config.progress_monitor
        if monitor is not None:
            monitor.phase_start("Building", "", 2)
            for step in range(2):
                if not monitor.step_complete("Building", step):
                    return None
            monitor.phase_finish("Building")
        if os.environ.get("FAKE_CRASH"):
            self.logger.log(ILogger.Severity.ERROR, "about to crash")
            os.kill(os.getpid(), signal.SIGSEGV)
        if os.environ.get("FAKE_BUILD_S"):
            Path(os.environ["VLACUT_ENGINES"], f".building-{os.getpid()}").touch()
            time.sleep(float(os.environ["FAKE_BUILD_S"]))
        if os.environ.get("FAKE_BUILD_FAILS"):
            self.logger.log(ILogger.Severity.ERROR, "Could not find any implementation for node X")
            return None
        engine = {
            "magic": _MAGIC,
            "version": __version__,
            "folder": network.folder,
            "model": base64.b64encode(network.model).decode(),
            "limits": config.limits,
            "tf32": BuilderFlag.TF32 in config.flags,
            "level": config.builder_optimization_level,
        }
        return IHostMemory(json.dumps(engine).encode())


class ParserError:
    def __init__(self, text: str, node: str) -> None:
        self._text, self._node = text, node

    def desc(self) -> str:
        return self._text

    def node_name(self) -> str:
        return self._node


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network = network
        self._errors: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def parse(self, model: bytes, path: str | None = None) -> bool:
        import onnx

        proto = onnx.load_model_from_string(bytes(model))
        self._network.model, self._network.num_layers = bytes(model), len(proto.graph.node)
        self._network.folder = os.fspath(Path(path or ".").parent)
        for tensor in proto.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location" and not Path(self._network.folder, entry.value).exists():
                    self._errors.append(ParserError(f"no file {entry.value}", tensor.name))
        for node in proto.graph.node:
            if node.op_type == "NonZero":
                self._errors.append(ParserError("No importer registered for op", node.name))
        return not self._errors


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        from fake_device import driver

        assert driver().begun, "TensorRT was touched before the driver was found"

    def deserialize_cuda_engine(self, serialized_engine: Any) -> ICudaEngine | None:
        try:
            made = json.loads(bytes(serialized_engine))
        except ValueError:
            return None
        if made.get("magic") != _MAGIC or made["version"] != __version__:
            return None
        return ICudaEngine(made)


class ICudaEngine:
    def __init__(self, made: dict[str, Any]) -> None:
        import onnx
        import onnxruntime as ort

        model = base64.b64decode(made["model"])
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", made["folder"]
        )
        self.session = ort.InferenceSession(model, options)
        graph = onnx.load_model_from_string(model).graph
        self._inputs = {value.name: value for value in graph.input}
        self.values = {**self._inputs, **{value.name: value for value in graph.output}}

    def __getattr__(self, name: str) -> Any:
        if name == "device_memory_size" and _MAJOR < 11:
            return self.device_memory_size_v2
        raise AttributeError(name)

    @property
    def num_io_tensors(self) -> int:
        return len(self.values)

    @property
    def device_memory_size_v2(self) -> int:
        return 1024

    def get_tensor_name(self, index: int) -> str:
        return list(self.values)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        from onnx import TensorProto

        kind = TensorProto.DataType.Name(self.values[name].type.tensor_type.elem_type)
        return DataType[{"FLOAT16": "HALF", "BFLOAT16": "BF16"}.get(kind, kind)]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(dim.dim_value for dim in self.values[name].type.tensor_type.shape.dim)

    def create_execution_context(
        self,
        strategy: ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy.STATIC,
    ) -> IExecutionContext:
        return IExecutionContext(self, strategy)


class IExecutionContext:
    def __init__(self, engine: ICudaEngine, strategy: ExecutionContextAllocationStrategy) -> None:
        self._engine = engine
        self._memory = 0 if strategy is ExecutionContextAllocationStrategy.USER_MANAGED else -1
        self._addresses: dict[str, int] = {}

    def set_device_memory(self, memory: int, size: int) -> None:
        from fake_device import driver

        assert memory % 256 == 0
        assert size >= self._engine.device_memory_size_v2
        self._memory = driver().checked(memory, size)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in self._engine.values:
            return False
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        from fake_device import driver

        assert self._memory, "no device memory was set"
        if set(self._addresses) != set(self._engine.values):
            return False
        where, scratch = dict(self._addresses), self._memory
        driver().on_stream(stream_handle, lambda: self._compute(where, scratch))
        return True

    def _compute(self, where: dict[str, int], scratch: int) -> None:
        from fake_device import driver

        if scratch > 0:
            driver().checked(scratch, 1024)
        views = dict(self._views(where))
        inputs = {
            value.name: views[value.name].copy() for value in self._engine.session.get_inputs()
        }
        names = [value.name for value in self._engine.session.get_outputs()]
        for name, made in zip(names, self._engine.session.run(names, inputs), strict=True):
            views[name][...] = made * (1 + _NOISE) if made.dtype.kind == "f" else made

    def _views(self, where: dict[str, int]) -> Iterator[tuple[str, np.ndarray]]:
        from fake_device import driver

        kinds = {"FLOAT": "f4", "HALF": "f2", "INT32": "i4", "INT64": "i8", "BOOL": "?"}
        for name, address in where.items():
            shape = self._engine.get_tensor_shape(name)
            kind = np.dtype(kinds.get(self._engine.get_tensor_dtype(name).name, "u1"))
            nbytes = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
            memory = (ctypes.c_char * nbytes).from_address(driver().checked(address, nbytes))
            yield name, np.frombuffer(memory, kind).reshape(shape)
