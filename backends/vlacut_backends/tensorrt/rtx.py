"""TensorRT-RTX as the check that needs no GPU: parse and build a part, in a process of its own.

It is another product than TensorRT, with the same parser and the same rules of types. It compiles
kernels on the device. So an engine that is built here shows that the graph can be built; it says
nothing about speed or numbers. Install it with `pip install 'vlacut[rtx]'`.

The child is this module run by path: `python rtx.py MODEL ROOT SM` prints one JSON object. In a
process of its own because a plug-in that is missing has been seen to abort it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGE = "tensorrt_rtx"
# Compute capabilities that 1.7 builds for, and those that stand in for others.
_OFFERED = (75, 80, 86, 89, 120, 121)
_STAND_IN = {87: 86, 90: 89, 110: 120}
_TIMEOUT_S = 3600.0
_LAST_LINES = 3


@dataclass(frozen=True)
class RtxResult:
    """The result of one build.

    Attributes:
        version: of TensorRT-RTX.
        problem: why there is no engine; empty if there is one.
        seconds: to parse and build.
        peak_bytes: resident memory of the process, at most.
        engine_bytes: of the serialised engine.
    """

    version: str
    problem: str
    seconds: float = 0.0
    peak_bytes: int = 0
    engine_bytes: int = 0


def offered_sm(sm: int) -> int | None:
    """The compute capability to build for in the place of one; None if there is none like it."""
    return sm if sm in _OFFERED else _STAND_IN.get(sm)


def installed() -> bool:
    """Whether TensorRT-RTX is."""
    return find_spec(PACKAGE) is not None


def build_in_child(model: Path, root: Path, sm: int, timeout_s: float = _TIMEOUT_S) -> RtxResult:
    """Parse and build an ONNX file whose external data lies relative to `root`."""
    command = [sys.executable, __file__, str(model), str(root), str(sm)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return RtxResult("", f"took more than {timeout_s:g} s")
    try:
        return RtxResult(**json.loads(done.stdout.strip().splitlines()[-1]))
    except (IndexError, ValueError, TypeError):
        said = " ".join(done.stderr.strip().splitlines()[-_LAST_LINES:])
        return RtxResult("", f"TensorRT-RTX ended with status {done.returncode}: {said}")


def _build(model: Path, root: Path, sm: int) -> RtxResult:
    """In the child: parse and build, with what TensorRT-RTX says of a failure."""
    import time

    import tensorrt_rtx as trt

    start = time.perf_counter()
    said: list[str] = []

    class Log(trt.ILogger):  # type: ignore[misc]  # a class of an extension
        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                said.append(message)

    builder = trt.Builder(logger := Log())
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    # The path is where external data is looked up: beside a file in `root`.
    if not parser.parse(model.read_bytes(), str(root / model.name)):
        found = [parser.get_error(index) for index in range(parser.num_errors)]
        text = "; ".join(f"{e.node_operator()} {e.node_name()}: {e.desc()}" for e in found)
        return RtxResult(trt.__version__, f"does not parse: {text or '; '.join(said)}")
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    capability = getattr(trt.ComputeCapability, f"SM{sm}", None)
    if capability is None or not config.set_compute_capability(capability, 0):
        return RtxResult(trt.__version__, f"does not build for sm_{sm}")
    engine = builder.build_serialized_network(network, config)
    seconds = time.perf_counter() - start
    if engine is None:
        return RtxResult(trt.__version__, f"does not build: {'; '.join(said)}", seconds)
    return RtxResult(trt.__version__, "", seconds, _peak_bytes(), engine.nbytes)


def _peak_bytes() -> int:
    """Of this process's own memory: what wait4 reports starts at the parent's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    made = _build(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    sys.stdout.write(json.dumps(vars(made)) + "\n")
