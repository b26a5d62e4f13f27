"""Builds the engines of a bundle's side on this machine, once: `vlacut build`.

Each engine is built and verified in a process of its own, see `worker`. So a crash of TensorRT is
just an error, and no two builds hold memory at the same time. An engine gets its name once it has
passed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

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
from vlacut.errors import BackendError, InputError, Progress
from vlacut.hardware import Side
from vlacut.plans.plan import Part
from vlacut_backends.tensorrt.key import check_recipe, engine_key, release
from vlacut_backends.tensorrt.process import ask_worker
from vlacut_backends.tensorrt.recipe import from_texts
from vlacut_backends.tensorrt.trtexec import find_trtexec
from vlacut_backends.tensorrt.worker import BuildRequest, Machine, Made

PYTHON, TRTEXEC = "python", "trtexec"
_PASSING = ".partial"


class TensorRTEngineBuilder:
    """See `vlacut.bundle.engine_records.EngineBuilder`. Interfaces: `python`, and `trtexec`."""

    def build(self, bundle: Bundle, side: Side, via: str, progress: Progress) -> BuildRecord:
        """See `vlacut.bundle.engine_records.EngineBuilder`."""
        if via not in ("", PYTHON, TRTEXEC):
            raise InputError(f"--via {via}: TensorRT is built by {PYTHON} or {TRTEXEC}")
        binary = find_trtexec() if via == TRTEXEC else ""
        progress("look at this machine", 0, 1)
        machine = Machine.of(ask_worker({"describe": binary}, "this machine", progress)["machine"])
        recipe = bundle.recipe(side)
        check_recipe(recipe, machine.tensorrt, machine.gpu.sm)
        folder = engines_folder()
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder, _PASSING)
        start = time.monotonic()
        passing = PrivateFolder(folder, _PASSING)
        try:
            job = _Job(bundle, recipe, machine, folder, passing.path, binary, progress)
            parts = bundle.parts(side)
            built = tuple(job.part(part, done, len(parts)) for done, part in enumerate(parts))
        finally:
            passing.remove()
        record = BuildRecord(
            format=FORMAT,
            bundle=bundle.digest.hex(),
            program=bundle.plan.program,
            side=side,
            device=str(machine.gpu),
            software=f"TensorRT {machine.tensorrt}",
            folder=str(folder),
            seconds=time.monotonic() - start,
            parts=built,
        )
        write_record(folder / f"{record.bundle[:16]}-{side.value}.json", record)
        return record


class _Job:
    """The parts of one build."""

    def __init__(
        self,
        bundle: Bundle,
        recipe: Mapping[str, str],
        machine: Machine,
        folder: Path,
        passing: Path,
        binary: str,
        progress: Progress,
    ) -> None:
        self._bundle = bundle
        self._recipe = recipe
        self._machine = machine
        self._folder = folder
        self._passing = passing
        self._binary = binary
        self._progress = progress

    def part(self, part: Part, done: int, total: int) -> BuiltPart:
        """The engine of a part: found, or built and verified."""
        model = self._bundle.part_path(part)
        key = engine_key(model, self._recipe, self._machine.tensorrt, self._machine.gpu)
        found = find_engine(self._folder, key)
        if found is not None:
            self._progress(f"{part.name}: is there", done + 1, total)
            return BuiltPart(part.name, key, False, found)
        passing = self._passing / f"{key}.engine"
        record = self._build(part, model, passing, f"{part.name} ({done + 1} of {total})")
        keep_engine(self._folder, key, passing, record)
        return BuiltPart(part.name, key, True, record)

    def _build(self, part: Part, model: Path, passing: Path, title: str) -> EngineRecord:
        request = self._request(part, model, passing)

        def show(phase: str, done: int, total: int) -> None:
            self._progress(f"{title}: {phase}", done, total)

        answer = ask_worker({"build": asdict(request)}, f"part {part.name}", show)
        made = Made(**answer["made"])
        if not made.passed:
            raise BackendError(
                f"part {part.name}: its engine is off by {made.max_error:.3g} of the largest "
                f"magnitude in a tensor, and {request.tolerance:.3g} is allowed: it was not kept; "
                f"compile with another --precision, or look at vlacut verify"
            )
        return EngineRecord(
            format=FORMAT,
            part=part.name,
            device=str(self._machine.gpu),
            software=f"TensorRT {self._machine.tensorrt}",
            via=TRTEXEC if self._binary else PYTHON,
            recipe=dict(self._recipe),
            nbytes=passing.stat().st_size,
            sha256=sha256_of(passing),
            seconds=made.seconds,
            host_bytes=made.host_bytes,
            workspace_bytes=made.workspace_bytes,
            verified=made.verified,
            max_error=made.max_error,
            allowed=request.tolerance,
            device_ms=made.device_ms,
            graph=made.graph,
        )

    def _request(self, part: Part, model: Path, passing: Path) -> BuildRequest:
        golden = self._bundle.part_golden_path(part)
        gpu, version = self._machine.gpu, release(self._machine.tensorrt)
        timed = self._folder / f"sm_{gpu.sm}-cuda{gpu.cuda}-{version}.timing"
        spec = self._bundle.plan.spec
        return BuildRequest(
            name=part.name,
            model=str(model.resolve()),
            root=str(self._bundle.root.resolve()),
            out=str(passing.resolve()),
            recipe=dict(self._recipe),
            timing_cache=str(timed) if from_texts(self._recipe).timing_cache == "device" else "",
            golden="" if golden is None else str(golden.resolve()),
            inputs=list(part.inputs),
            outputs=list(part.outputs),
            dtypes={key: spec[key].dtype for key in (*part.inputs, *part.outputs)},
            tolerance=self._bundle.tolerance(part.side),
            trtexec=self._binary,
        )
