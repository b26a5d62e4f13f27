"""The compiler: a program and a target in, a bundle out."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from vlacut.bundle.contents import Manifest
from vlacut.bundle.layout import FORMAT
from vlacut.bundle.opened import Bundle
from vlacut.bundle.planning import PLANNING, planning_bytes
from vlacut.bundle.reading import read_bundle
from vlacut.bundle.staging import staged_folder
from vlacut.bundle.writing import list_files, write_manifest
from vlacut.compiler.additions import Additions
from vlacut.compiler.anatomy import anatomy
from vlacut.compiler.backends import BackEnds, parse_backends
from vlacut.compiler.emitting import Emission, packs, write_initial
from vlacut.compiler.model_check.check import check_tolerance
from vlacut.compiler.overlapping import check_overlap
from vlacut.compiler.part_surgery import forget_before
from vlacut.compiler.planning import Planned, plan_program
from vlacut.compiler.recording import Recorder
from vlacut.compiler.refusals import OfBackEnds
from vlacut.compiler.target import Target
from vlacut.errors import Progress, unwatched, watched
from vlacut.frontends.checkpoint import Stored, load_weights
from vlacut.hardware import Side
from vlacut.ir.dataflow import trace_dataflow
from vlacut.ir.program import Program
from vlacut.split.emission import whole_phases
from vlacut.split.parts import whole_states
from vlacut.split.weights import WeightStore

_TOOLS = ("vlacut", "numpy", "onnx", "onnx-ir", "torch", "scipy")


def compile_program(
    program: Program | Callable[[], Program],
    target: Target,
    out: Path,
    *,
    checkpoint: Mapping[str, Stored] | None = None,
    backend: str = "onnxruntime",
    provider: str = "",
    pipeline: str = "",
    golden: bool = True,
    model_check: bool = True,
    model_tolerance: float | None = None,
    predictor: Path | None = None,
    actions: Path | None = None,
    precision_table: Path | None = None,
    progress: Progress = unwatched,
) -> tuple[Planned, Bundle]:
    """Plan a program, emit both sides' parts, and write the bundle at `out`.

    `out` appears whole at the end, or not at all. With `golden`, this machine runs one step of the
    uncut model and records it. If the model that the front end was given can run here, the uncut
    program is compared with it: see `vlacut.compiler.model_check`.

    Args:
        program: the program, or a function that makes it: a checkpoint is copied while it traces.
        target: what to cut it for.
        out: path of the bundle.
        checkpoint: the weights of which the program has only shapes.
        backend: name of the builder, or `edge=NAME,cloud=NAME`.
        provider: what its executor is to run on, likewise; by device if empty.
        pipeline: passes to run instead of the target's.
        golden: whether to record a step, if the back end computes.
        model_check: whether to compare the program with the model that it came from.
        model_tolerance: the largest difference that is allowed, as a share of an output's
            magnitude; None takes the one of the element type.
        predictor: a file of `vlacut train-predictor`, to put into the bundle.
        actions: a file of `vlacut calibrate-actions` for this plan's variants, to put there too.
        precision_table: a file of `vlacut calibrate-precision`, likewise.
        progress: called with what is being done, how much is done, and how much there is.

    Raises InputError, PassError, BackendError, ModelDiffers if the program does not compute what
    its model does, or BundleError if `out` cannot be written.
    """
    check_tolerance(model_tolerance)
    files = Additions(
        predictor,
        actions,
        precision_table,
        Path(target.draft_table) if target.draft_table else None,
    )
    added, ends, stored = files.read(), parse_backends(backend), checkpoint or {}
    devices = {Side.EDGE: target.edge, Side.CLOUD: target.cloud}
    recipes = ends.recipes(devices, provider)
    with staged_folder(out) as folder:
        with WeightStore(folder) as store:
            program, unused = _loaded(program, stored, ends, store, progress)
            types = ends.conversions(program, f"{target.precision},{target.precisions}")
            refusals = OfBackEnds(ends, recipes, devices, types.sides)
            planned = plan_program(program, target, pipeline, progress, types, refusals)
            overlap = check_overlap(program) if golden and model_check else ()
            added.check(planned.plan)
            made = anatomy(trace_dataflow(program), planned.plan, planned.split, planned.interval_s)
            phases = whole_phases(program)
            if packs(planned, target):
                recipes = ends.for_many_rows(recipes)
            emission = Emission(folder, store, ends, recipes, types.sides, progress)
            planned = emission.emit(program, planned, target, phases)
        (folder / PLANNING).write_bytes(planning_bytes(made))
        write_initial(program, folder)
        recorder = Recorder(program, planned.plan, phases, folder, ends, progress)
        record, said = recorder.run(golden, model_check, model_tolerance)
        forget_before(folder)
        tolerances = ends.tolerances(program, types)
        at_predictor, at_actions = files.write(folder)
        manifest = Manifest(
            format=FORMAT,
            plan=planned.plan,
            backends={side.value: name for side, name in ends.names.items()},
            recipes=recipes,
            tolerance=max(tolerances.values()),
            tolerances=tolerances,
            whole=phases,
            uncut=ends.uncut,
            states=whole_states(program),
            pipeline=planned.pipeline,
            tools=_tools(),
            predictor=at_predictor,
            actions=at_actions,
            model_check=record,
            files=list_files(folder),
        )
        write_manifest(folder, manifest)
    more = filter(None, (unused, added.doubts(planned.plan), *said, *overlap))
    return replace(planned, warnings=(*more, *planned.warnings)), read_bundle(out)


def _loaded(
    program: Program | Callable[[], Program],
    stored: Mapping[str, Stored],
    ends: BackEnds,
    store: WeightStore,
    progress: Progress,
) -> tuple[Program, str]:
    """The program with its checkpoint, and what to say of weights that it has no use for.

    The checkpoint is copied while the program is made, if no back end changes its content.
    """
    if stored and not any(one.rewrites_weights for one in ends.builders.values()):
        store.prefetch(item.tensor(name) for name, item in stored.items())
    if not isinstance(program, Program):
        progress("load", 0, 1)
        with watched(progress):
            program = program()
    return program, load_weights(program, stored) if stored else ""


def _tools() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in _TOOLS}}
