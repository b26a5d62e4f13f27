"""Engines by torch-tensorrt: what a user of PyTorch would build, kept and served as all others are.

    vlacut compile ... --backend torch-tensorrt -o policy.vlacut
    vlacut build policy.vlacut --side cloud

Each part is traced by torch.export and converted whole to an engine of TensorRT's, which is run on
the part's golden tensors and kept once it is within the tolerance, under a key of part, recipe, GPU
and releases: torch-tensorrt's own cache has no part in it. Of a bundle that was compiled for
`tensorrt` it builds the same parts in its own way, to compare the two. It needs a GPU, and
torch-tensorrt of exactly PyTorch's release.
"""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from vlacut.bundle.engine_records import (
    FORMAT,
    BuildRecord,
    BuiltPart,
    EngineRecord,
    engines_folder,
    find_engine,
    keep_engine,
    sha256_of,
    write_record,
)
from vlacut.bundle.opened import Bundle
from vlacut.bundle.private import PrivateFolder, remove_leftovers
from vlacut.errors import BackendError, InputError, Progress, UnsupportedError
from vlacut.hardware import Side
from vlacut.plans.plan import Part
from vlacut.tensor.numerics import synthetic
from vlacut_backends.cuda.driver import driver
from vlacut_backends.tensorrt.golden import Golden
from vlacut_backends.tensorrt.handles import tensorrt
from vlacut_backends.tensorrt.key import check_recipe
from vlacut_backends.tensorrt.recipe import from_texts
from vlacut_backends.tensorrt.verifying import verify_engine
from vlacut_backends.torch_tensorrt.execute import TorchTensorRTExecutor
from vlacut_backends.torch_tensorrt.key import compiler_name, kept_recipe, torch_engine_key

NAME = "torch-tensorrt"
_DEVICE = "cuda"
_FREE_SHARE = 2  # as with our own engines
_PASSING = ".torch.partial"


class TorchTensorRTEngineBuilder:
    """See `vlacut.bundle.engine_records.EngineBuilder`."""

    def build(self, bundle: Bundle, side: Side, via: str, progress: Progress) -> BuildRecord:
        """See `vlacut.bundle.engine_records.EngineBuilder`."""
        if via:
            raise InputError("--via chooses an interface of TensorRT; torch-tensorrt has none")
        gpu = driver().gpu
        compiler = load_torch_tensorrt()
        release = tensorrt().__version__
        check_recipe(bundle.recipe(side), release, gpu.sm)
        start = time.monotonic()
        folder = engines_folder()
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder, _PASSING)
        passing = PrivateFolder(folder, _PASSING)
        try:
            job = _Job(bundle, side, compiler, folder, passing.path, progress)
            built = tuple(job.part(part, done) for done, part in enumerate(bundle.parts(side)))
        finally:
            passing.remove()
        record = BuildRecord(
            format=FORMAT,
            bundle=bundle.digest.hex(),
            program=bundle.plan.program,
            side=side,
            device=str(gpu),
            software=f"{compiler_name()}, TensorRT {release}",
            folder=str(folder),
            seconds=time.monotonic() - start,
            parts=built,
        )
        write_record(folder / f"{record.bundle[:16]}-{side.value}-{NAME}.json", record)
        return record


def load_torch_tensorrt() -> Any:
    """The module. Raises UnsupportedError with the reason if it cannot be loaded here."""
    try:
        return import_module("torch_tensorrt")
    except Exception as error:  # libraries that are missing come as OSError, RuntimeError and more
        raise UnsupportedError(
            f"torch-tensorrt cannot be loaded: {type(error).__name__}: {error}; it is for servers "
            f"with a GPU: pip install torch-tensorrt=={version('torch').partition('+')[0]}"
        ) from error


@dataclass(frozen=True)
class _Job:
    """The parts of one build."""

    bundle: Bundle
    side: Side
    compiler: Any
    folder: Path
    passing: Path
    progress: Progress

    def part(self, part: Part, done: int) -> BuiltPart:
        """The engine of a part: found, or built and verified."""
        model, recipe = self.bundle.part_path(part), self.bundle.recipe(self.side)
        key = torch_engine_key(model, recipe, tensorrt().__version__, driver().gpu)
        total = len(self.bundle.parts(self.side))
        found = find_engine(self.folder, key)
        if found is not None:
            self.progress(f"{part.name}: is there", done + 1, total)
            return BuiltPart(part.name, key, False, found)
        self.progress(f"{part.name} by torch-tensorrt", done, total)
        passing = self.passing / f"{key}.engine"
        record = self._build(part, passing)
        keep_engine(self.folder, key, passing, record)
        return BuiltPart(part.name, key, True, record)

    def _build(self, part: Part, passing: Path) -> EngineRecord:
        found = driver()
        found.enter()
        recipe = self.bundle.recipe(self.side)
        workspace = min(from_texts(recipe).workspace_bytes, found.free_bytes() // _FREE_SHARE)
        start = time.monotonic()
        passing.write_bytes(compile_part(self.bundle, part, self.compiler, workspace))
        seconds = time.monotonic() - start
        spec = self.bundle.plan.spec
        keys = part.inputs, part.outputs
        engine = TorchTensorRTExecutor().load_engine(passing, part.name, keys)
        dtypes = {key: spec[key].dtype for key in part.outputs}
        verified = verify_engine(engine, _golden(self.bundle, part), dtypes)
        allowed = self.bundle.tolerance(self.side)
        if not verified.compared.error <= allowed:
            raise BackendError(
                f"part {part.name}: the engine that torch-tensorrt made is off by "
                f"{verified.compared.error:.3g} of the largest magnitude in a tensor, and "
                f"{allowed:.3g} is allowed: it was not kept; take --backend tensorrt"
            )
        return EngineRecord(
            format=FORMAT,
            part=part.name,
            device=str(found.gpu),
            software=f"{compiler_name()}, TensorRT {tensorrt().__version__}",
            via="torch.export",
            recipe=kept_recipe(recipe, *keys),
            nbytes=passing.stat().st_size,
            sha256=sha256_of(passing),
            seconds=seconds,
            host_bytes=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            workspace_bytes=workspace,
            verified=verified.compared.against,
            max_error=verified.compared.error,
            allowed=allowed,
            device_ms=verified.device_ms,
            graph=verified.graph,
        )


def _golden(bundle: Bundle, part: Part) -> Golden:
    arrays = bundle.part_golden(part)
    if arrays is None:
        return Golden({}, {})
    inputs = {key: arrays[key] for key in part.inputs}
    return Golden(inputs, {key: arrays[key] for key in part.outputs})


def compile_part(bundle: Bundle, part: Part, compiler: Any, workspace: int) -> bytes:
    """The engine that torch-tensorrt makes of a part, whose inputs and outputs are in the part's
    order.

    Raises BackendError if it cannot be traced or compiled.
    """
    import torch

    from vlacut_backends.aten.module import PartModule

    module = PartModule(bundle.part_path(part), bundle.root).to(_DEVICE).eval()
    spec = bundle.plan.spec
    inputs = [_tensor(synthetic(spec[key]), spec[key].dtype).to(_DEVICE) for key in part.inputs]
    try:
        with torch.no_grad():
            traced = torch.export.export(module, tuple(inputs), strict=False)
            # Types are those of the graph, and weights are part of the engine: as with our own.
            return bytes(
                compiler.dynamo.convert_exported_program_to_serialized_trt_engine(
                    traced,
                    arg_inputs=inputs,
                    workspace_size=workspace,
                    min_block_size=1,
                    require_full_compilation=True,
                    use_explicit_typing=True,
                    immutable_weights=True,
                )
            )
    except Exception as error:  # torch's own exceptions share no base but this
        said = str(error).strip().partition("\n")[0]
        raise BackendError(
            f"part {part.name}: torch-tensorrt cannot compile it: {type(error).__name__}: {said}"
        ) from error


def _tensor(array: np.ndarray, dtype: str) -> Any:
    import torch

    if dtype == "bfloat16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))
