"""Builds one engine, in a process of its own: `python -m vlacut_backends.tensorrt.worker`.

TensorRT ends a process where it fails badly, and gives memory back for sure when one ends. The
request is a line of JSON on standard input: {"build": `BuildRequest`}, or {"describe": a trtexec or
""}. On standard output come lines of JSON: {"phase", "done", "total"} while it builds, {"log",
"level"} for messages, and in the end {"made": `Made`}, {"machine": `Machine`} or {"error": one
line}. The engine is a file at `BuildRequest.out`, which is the caller's to put in its place.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vlacut.bundle.private import beside
from vlacut.errors import BackendError, VlacutError
from vlacut_backends.cuda.driver import Gpu, driver
from vlacut_backends.tensorrt.execute import TensorRTExecutor
from vlacut_backends.tensorrt.golden import Comparison, Golden, compare, read_golden
from vlacut_backends.tensorrt.handles import has_tensorrt, make_logger, tensorrt
from vlacut_backends.tensorrt.recipe import STRONGLY_TYPED, TF32, Recipe, from_texts
from vlacut_backends.tensorrt.trtexec import build_by_trtexec, run_by_trtexec, trtexec_version
from vlacut_backends.tensorrt.verifying import verify_engine

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_FREE_SHARE = 2  # of the free memory, half is for tactics: the weights come on top
Say = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class BuildRequest:
    """What to build.

    Attributes:
        name: of the part.
        model, root: its ONNX file, and the folder that its weights are relative to.
        out: the engine's file.
        recipe: of the bundle.
        timing_cache: file of TensorRT's timing cache; empty for none.
        golden: file of the part's golden tensors; empty if the bundle has none.
        inputs, outputs: keys of the part's tensors.
        dtypes: the plan's element types of these, by key.
        tolerance: how far outputs may be off, as a share of the largest magnitude in a tensor.
        trtexec: the binary to build with; empty for Python.
    """

    name: str
    model: str
    root: str
    out: str
    recipe: dict[str, str]
    timing_cache: str
    golden: str
    inputs: list[str]
    outputs: list[str]
    dtypes: dict[str, str]
    tolerance: float
    trtexec: str


@dataclass(frozen=True)
class Machine:
    """What engines of this machine depend on."""

    gpu: Gpu
    tensorrt: str

    @classmethod
    def of(cls, data: dict[str, Any]) -> Machine:
        """What `asdict` made of one."""
        return cls(Gpu(**data["gpu"]), data["tensorrt"])


@dataclass(frozen=True)
class Made:
    """What was built; see `EngineRecord`."""

    seconds: float
    host_bytes: int
    workspace_bytes: int
    verified: str
    max_error: float
    passed: bool
    device_ms: float
    graph: bool


def main() -> None:
    """See the module's docstring."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    # TensorRT's own lines on standard output must not come between ours.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(line: dict[str, Any]) -> None:
        answers.write(json.dumps(line) + "\n")
        answers.flush()

    try:
        asked = json.loads(sys.stdin.readline())
        if "build" in asked:
            say({"made": asdict(build(BuildRequest(**asked["build"]), say))})
        else:
            say({"machine": asdict(describe(asked["describe"]))})
    except VlacutError as error:
        say({"error": str(error)})
        sys.exit(1)


def describe(trtexec: str) -> Machine:
    """This machine. Raises BackendError without a driver, a GPU or TensorRT."""
    gpu = driver().gpu
    return Machine(gpu, trtexec_version(trtexec) if trtexec else tensorrt().__version__)


def build(request: BuildRequest, say: Say) -> Made:
    """Build and verify. Raises BackendError."""
    recipe = from_texts(request.recipe)
    found = driver()
    found.enter()
    workspace = min(recipe.workspace_bytes, found.free_bytes() // _FREE_SHARE)
    start = time.monotonic()
    if request.trtexec:
        files = Path(request.model), Path(request.root), Path(request.out)
        build_by_trtexec(
            request.trtexec, *files, recipe, workspace, request.timing_cache, partial(_log, say)
        )
    else:
        _build(request, recipe, workspace, say)
    seconds = time.monotonic() - start
    who = resource.RUSAGE_CHILDREN if request.trtexec else resource.RUSAGE_SELF
    host_bytes = 1024 * resource.getrusage(who).ru_maxrss
    say({"phase": "verify", "done": 0, "total": 1})
    compared, device_ms, graph = _verify(request)
    return Made(
        seconds=seconds,
        host_bytes=host_bytes,
        workspace_bytes=workspace,
        verified=compared.against,
        max_error=compared.error,
        passed=compared.error <= request.tolerance,
        device_ms=device_ms,
        graph=graph,
    )


def _log(say: Say, text: str, level: int = logging.INFO) -> None:
    say({"log": text, "level": level})


def _build(request: BuildRequest, recipe: Recipe, workspace: int, say: Say) -> None:
    trt = tensorrt()

    def note(level: int, text: str) -> None:
        if level >= logging.WARNING:
            _log(say, text, level)

    log = make_logger(note)
    builder = trt.Builder(log)
    network = builder.create_network(_network_flags(trt, recipe))
    parser = trt.OnnxParser(network, log)
    # The path is what weights are found by: they are relative to the bundle, not to the part.
    where = os.fspath(Path(request.root) / Path(request.model).name)
    if not parser.parse(Path(request.model).read_bytes(), where):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        said = "; ".join(f"{error.node_name()}: {error.desc()}" for error in errors[:3])
        raise BackendError(f"part {request.name}: TensorRT cannot parse it: {said}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    config.builder_optimization_level = recipe.optimization_level
    if TF32 not in recipe.flags:
        config.clear_flag(trt.BuilderFlag.TF32)
    config.progress_monitor = _monitor(trt, say)
    cache = _use_timing_cache(config, request.timing_cache)
    made = builder.build_serialized_network(network, config)
    if made is None:
        raise BackendError(f"part {request.name}: TensorRT could not build it")
    Path(request.out).write_bytes(made)
    if cache is not None:
        _keep_timing_cache(config, Path(request.timing_cache))


def _network_flags(trt: Any, recipe: Recipe) -> int:
    """Before 11 strong types had to be asked for; 11 knows no others, and has other flags there."""
    if STRONGLY_TYPED in recipe.flags and int(trt.__version__.partition(".")[0]) < 11:
        return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED.value)
    return 0


def _monitor(trt: Any, say: Say) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # found at run time
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.totals: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """Called by TensorRT, from any thread."""
            self.totals[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            """True: go on."""
            say({"phase": phase_name, "done": step + 1, "total": self.totals.get(phase_name, 0)})
            return True

        def phase_finish(self, phase_name: str) -> None:
            """Nothing to say: the next phase will."""

    return Monitor()


def _use_timing_cache(config: Any, file: str) -> Any:
    """The cache that the configuration now has; None if the recipe wants none."""
    if not file:
        return None
    path = Path(file)
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    if not config.set_timing_cache(cache, False):  # of another driver: begin anew
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _keep_timing_cache(config: Any, path: Path) -> None:
    passing = beside(path)
    passing.write_bytes(config.get_timing_cache().serialize())
    passing.replace(path)


def _verify(request: BuildRequest) -> tuple[Comparison, float, bool]:
    """Run the engine as the runtime will: the comparison, milliseconds, and if as a graph."""
    if request.trtexec and not has_tensorrt():
        return _verify_by_trtexec(request)
    engine = TensorRTExecutor().load_engine(Path(request.out), request.name)
    verified = verify_engine(engine, _read_golden(request), request.dtypes)
    return verified.compared, verified.device_ms, verified.graph


def _read_golden(request: BuildRequest) -> Golden:
    return read_golden(request.golden, request.inputs, request.outputs)


def _verify_by_trtexec(request: BuildRequest) -> tuple[Comparison, float, bool]:
    golden = _read_golden(request)
    flat, device_ms = run_by_trtexec(request.trtexec, Path(request.out), golden.inputs)
    missing = set(golden.outputs) - set(flat)
    if missing:
        raise BackendError(f"part {request.name}: trtexec exported no {', '.join(sorted(missing))}")
    made = {key: flat[key].reshape(wanted.shape) for key, wanted in golden.outputs.items()}
    return compare(made, golden, request.dtypes), device_ms, True


if __name__ == "__main__":
    main()
