"""torch-tensorrt over every part: the comparison that a user of PyTorch would make.

    vlacut build BUNDLE --side cloud --backend torch-tensorrt

Each part is traced by torch.export and compiled whole, run on its golden tensors, compared with
them and timed, next to what `vlacut build` says of its own engines. Nothing is kept: the runtime
runs engines of TensorRT alone. It needs a GPU, and torch-tensorrt of exactly PyTorch's release.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from vlacut.bundle.engine_records import FORMAT, BuildRecord, BuiltPart, EngineRecord
from vlacut.bundle.manifest import Bundle
from vlacut.errors import BackendError, InputError, Progress
from vlacut.hardware import Side
from vlacut.plans.plan import Part
from vlacut.tensor.numerics import synthetic
from vlacut_backends.cuda.driver import driver
from vlacut_backends.tensorrt.golden import Golden, compare
from vlacut_backends.tensorrt.recipe import from_texts

if TYPE_CHECKING:
    import torch

_RUNS = 20
_FREE_SHARE = 2  # as with our own engines


class TorchTensorRTEngineBuilder:
    """See `vlacut.bundle.engine_records.EngineBuilder`. Its engines have no files: see above."""

    def build(self, bundle: Bundle, side: Side, via: str, progress: Progress) -> BuildRecord:
        """See `vlacut.bundle.engine_records.EngineBuilder`."""
        if via:
            raise InputError("--via chooses an interface of TensorRT; torch-tensorrt has none")
        gpu = driver().gpu
        compiler = load_torch_tensorrt()
        start = time.monotonic()
        parts = bundle.parts(side)
        device = str(gpu)
        software = f"torch-tensorrt {_version('torch-tensorrt')}, torch {_version('torch')}"
        made = []
        for done, part in enumerate(parts):
            progress(f"{part.name} by torch-tensorrt", done, len(parts))
            engine = _compiled(bundle, part, side, compiler, device, software)
            made.append(BuiltPart(part.name, "", True, engine))
        return BuildRecord(
            format=FORMAT,
            bundle=bundle.digest.hex(),
            program=bundle.plan.program,
            side=side,
            device=device,
            software=software,
            folder="",
            seconds=time.monotonic() - start,
            parts=tuple(made),
        )


def load_torch_tensorrt() -> Any:
    """The module. Raises BackendError with the reason if it cannot be loaded here."""
    try:
        return import_module("torch_tensorrt")
    except Exception as error:  # libraries that are missing come as OSError, RuntimeError and more
        raise BackendError(
            f"torch-tensorrt cannot be loaded: {type(error).__name__}: {error}; it is for servers "
            f"with a GPU: pip install torch-tensorrt=={_version('torch')}"
        ) from error


def _version(name: str) -> str:
    try:
        return version(name).partition("+")[0]
    except ImportError:
        return "of an unknown version"


def _compiled(
    bundle: Bundle, part: Part, side: Side, compiler: Any, device: str, software: str
) -> EngineRecord:
    free = driver()
    free.enter()
    recipe = bundle.recipe(side)
    workspace = min(from_texts(recipe).workspace_bytes, free.free_bytes() // _FREE_SHARE)
    golden = _golden(bundle, part)
    start = time.monotonic()
    run = compile_part(bundle, part, golden, compiler, workspace)
    seconds = time.monotonic() - start
    outputs, device_ms = run()
    spec = bundle.plan.spec
    compared = compare(outputs, golden, {key: spec[key].dtype for key in part.outputs})
    return EngineRecord(
        format=FORMAT,
        part=part.name,
        device=device,
        software=software,
        via="torch.export",
        recipe=dict(recipe),
        nbytes=0,
        sha256="",
        seconds=seconds,
        host_bytes=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        workspace_bytes=workspace,
        verified=compared.against,
        max_error=compared.error,
        allowed=bundle.tolerance(side),
        device_ms=device_ms,
        graph=False,
    )


def _golden(bundle: Bundle, part: Part) -> Golden:
    arrays = bundle.part_golden(part)
    if arrays is None:
        return Golden({key: synthetic(bundle.plan.spec[key]) for key in part.inputs}, {})
    inputs = {key: arrays[key] for key in part.inputs}
    return Golden(inputs, {key: arrays[key] for key in part.outputs})


def compile_part(
    bundle: Bundle, part: Part, golden: Golden, compiler: Any, workspace: int, device: str = "cuda"
) -> Callable[[], tuple[dict[str, np.ndarray], float]]:
    """What runs a part as torch-tensorrt compiled it: outputs by key, and a run's milliseconds.

    Raises BackendError if it cannot be traced or compiled.
    """
    import torch

    from vlacut_backends.aten.module import PartModule

    module = PartModule(bundle.part_path(part), bundle.root).to(device).eval()
    spec = bundle.plan.spec
    inputs = tuple(_tensor(golden.inputs[key], spec[key].dtype).to(device) for key in part.inputs)
    try:
        with torch.no_grad():
            traced = torch.export.export(module, inputs, strict=False)
            compiled = compiler.dynamo.compile(
                traced,
                arg_inputs=list(inputs),
                device=torch.device(device),
                workspace_size=workspace,
                min_block_size=1,
                require_full_compilation=True,
            )
    except Exception as error:  # torch's own exceptions share no base but this
        said = str(error).strip().partition("\n")[0]
        raise BackendError(
            f"part {part.name}: torch-tensorrt cannot compile it: {type(error).__name__}: {said}"
        ) from error
    return lambda: _run(compiled, inputs, part, device)


def _run(
    compiled: Any, inputs: tuple[torch.Tensor, ...], part: Part, device: str
) -> tuple[dict[str, np.ndarray], float]:
    import torch

    spent = []
    with torch.no_grad():
        for _ in range(_RUNS):
            made, milliseconds = _timed(lambda: compiled(*inputs), device)
            spent.append(milliseconds)
    outputs = {key: _array(tensor) for key, tensor in zip(part.outputs, made, strict=True)}
    return outputs, statistics.median(spent)


def _timed(run: Callable[[], Any], device: str) -> tuple[Any, float]:
    """What a run makes, and its milliseconds: by events on a GPU."""
    import torch

    if device != "cuda":
        start = time.perf_counter()
        return run(), (time.perf_counter() - start) * 1e3
    event: Any = torch.cuda.Event
    began, ended = (event(enable_timing=True) for _ in range(2))
    began.record()
    made = run()
    ended.record()
    ended.synchronize()
    return made, float(began.elapsed_time(ended))


def _tensor(array: np.ndarray, dtype: str) -> torch.Tensor:
    import torch

    if dtype == "bfloat16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))


def _array(tensor: torch.Tensor) -> np.ndarray:
    import torch

    here = tensor.detach().cpu()
    if here.dtype == torch.bfloat16:
        carried: np.ndarray = here.view(torch.int16).numpy().view(np.uint16)
        return carried
    plain: np.ndarray = here.numpy()
    return plain
