"""The compiler: a program and a target in, a plan or a bundle out."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

import onnx_ir as ir

from vlacut.backend import Finding
from vlacut.bundle.contents import Manifest
from vlacut.bundle.halves import DRAFTS, PRECISIONS
from vlacut.bundle.manifest import (
    ACTIONS,
    FORMAT,
    PREDICTORS,
    Bundle,
    add_file,
    list_files,
    read_bundle,
    write_manifest,
)
from vlacut.bundle.planning import PLANNING, planning_bytes
from vlacut.bundle.staging import staged_folder
from vlacut.compiler.advice import advice, slow_samples
from vlacut.compiler.anatomy import anatomy
from vlacut.compiler.backends import parse_backends
from vlacut.compiler.batching import batched, check_back_end
from vlacut.compiler.model_check import check_tolerance
from vlacut.compiler.overlapping import check_overlap
from vlacut.compiler.precision_list import parse_precisions
from vlacut.compiler.precisions import join, run_passes
from vlacut.compiler.recording import Recorder
from vlacut.compiler.target import Target
from vlacut.compiler.variants import variants_of
from vlacut.compiler.ways import choose_way
from vlacut.control.precision_table import read_precision_table
from vlacut.control.tables import read_tables
from vlacut.errors import BackendError, InputError, Progress, unwatched, watched
from vlacut.frontends.checkpoint import Stored, load_weights
from vlacut.hardware import Device, Link, Side, load_device
from vlacut.ir.annotation import (
    CONVERTED,
    FIXED,
    MEASURED,
    NOISE,
    NOTES,
    PREMISES,
    STATE_COPIES,
    WARMING,
    forget,
)
from vlacut.ir.bindings import doubtful_bindings
from vlacut.ir.dataflow import cuts_of, key_of, trace_dataflow, weights_of
from vlacut.ir.graphs import operators
from vlacut.ir.pipeline import Pass, Timing, parse_pipeline
from vlacut.ir.program import Program
from vlacut.ir.rolling import unrolled_loops
from vlacut.plans.batch import parse_batches
from vlacut.plans.plan import Plan
from vlacut.plans.pool import Considered
from vlacut.plans.ways import Way
from vlacut.pricing.dominance import Standing, changes_at, latency_ratio
from vlacut.pricing.price import Price, Strategy
from vlacut.pricing.roofline import interval
from vlacut.runtime.cloud.footprint import cloud_memory
from vlacut.runtime.network.lstm import read_weights
from vlacut.split.emission import bundle_models, save, whole_phases
from vlacut.split.parts import Split, plan_states, split, whole_states
from vlacut.split.printer import print_split
from vlacut.split.weights import WeightStore
from vlacut.tensor.npz import npz_bytes

_SHOWN_FINDINGS = 3
_TOOLS = ("vlacut", "numpy", "onnx", "onnx-ir", "torch", "scipy")


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A plan, and what it was made of.

    Attributes:
        plan: what runs where.
        split: the parts with their operators.
        timings: of the passes.
        pipeline: text of the pipeline that ran.
        warnings: what a user should know of the plan, a line each.
        converted: which element type became which, for the back end; empty if none did.
        measured: how many operators were measured on which side; empty if none was.
        interval_s: bounds in seconds between which nine of ten steps should lie, if the link is as
            stated.
        considered: every placement that the pool considered; none without a pool.
        notes: what the front end did to the model, and what it took from the example, a line each.
        ways: to run the loop, each as priced; none if nothing else than trip by trip was asked for.
    """

    plan: Plan
    split: Split
    timings: tuple[Timing, ...]
    pipeline: str
    warnings: tuple[str, ...]
    converted: str
    measured: str
    interval_s: tuple[float, float]
    considered: tuple[Considered, ...] = ()
    notes: tuple[str, ...] = ()
    ways: tuple[Way, ...] = ()


def parts_text(program: Program) -> str:
    """Parts and schedules of a cut program, as text; PassError if no pass has cut it."""
    dataflow = trace_dataflow(program)
    return print_split(split(dataflow), [cut.name for cut in cuts_of(dataflow).variants])


def plan_program(
    program: Program,
    target: Target,
    pipeline: str = "",
    progress: Progress = unwatched,
    conversions: Mapping[str, str] = MappingProxyType({}),
) -> Planned:
    """Annotate and cut a program, in place, for a target.

    Args:
        program: what to cut.
        target: what for.
        pipeline: passes to run instead of the target's.
        progress: called with what is being done, how much is done, and how much there is.
        conversions: types that the target's pipeline has to convert first.

    Raises InputError if the request is at fault, PassError if a pass is.
    """
    target.check()
    if pipeline and target.undecided:
        raise InputError(
            "--in-flight auto, --draft auto and --minimise age are for the default pipeline; name "
            "in-flight or draft in yours"
        )
    choice = choose_way(program, target, conversions, progress)
    target = choice.target
    edge, cloud = load_device(target.edge), load_device(target.cloud)
    link = target.network()
    passes = parse_pipeline(pipeline or target.pipeline(conversions))
    target.check_pipeline(passes)
    doubtful = (*doubtful_bindings(program), *unrolled_loops(program))
    forget(program)
    if target.state_copies:
        STATE_COPIES.put(program, True)
    passed = run_passes(program, passes, parse_precisions(target.precisions), progress)
    progress("plan", len(passes.passes), len(passes.passes))
    dataflow, fixed = trace_dataflow(program), FIXED.find(program) or {}
    cuts, parts = cuts_of(dataflow), split(dataflow)
    chosen = cuts.chosen.price
    outputs = {
        spec.name: key_of(program, program.output_source(spec.name)) for spec in program.outputs
    }
    states = plan_states(dataflow)
    variants = tuple(variants_of(dataflow, cuts.variants, parts, cuts.asked.link))
    same = (*(spec.name for spec in program.inputs), *outputs.values(), *(s.key for s in states))
    joint = join(program, parts, variants, passed.precise, cuts.asked.link, same)
    parts, weights = joint.split, {**weights_of(program), **joint.weights}
    plan = Plan(
        program=program.name,
        edge=edge.name,
        cloud=cloud.name,
        link=link,
        inputs=program.inputs,
        outputs=outputs,
        tensors=parts.tensors,
        parts=parts.parts,
        variants=(*variants, *joint.variants),
        strategies=cuts.strategies,
        pool=cuts.pool,
        standings=tuple(_standings(chosen, link, cuts.strategies)),
        certificate=cuts.certificate,
        states=states,
        state_copies=target.state_copies == Side.EDGE.value,
        kept_observations=target.kept_observations,
        fixed={name: tuple(map(int, array.flat)) for name, array in fixed.items()},
        premises=PREMISES.find(program) or (),
        noise=NOISE.find(program) or (),
        warming=WARMING.find(program) or 0,
    )
    target.check_age(plan.age_s)
    plan = replace(plan, memory=cloud_memory(plan, cloud.memory_bytes, weights))
    converted = "; ".join(filter(None, (CONVERTED.find(program), *joint.converted)))
    warnings = (*doubtful, *advice(program, edge, plan, weights), *joint.left_out)
    measured = _measured(program) if target.costs else ""
    bounds = _interval(chosen, edge, cloud)
    return Planned(
        plan=plan,
        split=parts,
        timings=passed.timings,
        pipeline=str(passes),
        warnings=warnings,
        converted=converted,
        measured=measured,
        interval_s=bounds,
        considered=cuts.considered,
        notes=NOTES.find(program) or (),
        ways=choice.rows(program, chosen),
    )


def _interval(chosen: Price, edge: Device, cloud: Device) -> tuple[float, float]:
    """Bounds on the latency of a cut, both sides' predictions being off alike."""
    rest = chosen.total_s - chosen.edge_s - chosen.cloud_s
    here, there = interval(chosen.edge_s, edge), interval(chosen.cloud_s, cloud)
    return rest + here[0] + there[0], rest + here[1] + there[1]


def _measured(program: Program) -> str:
    nodes = [node for phase in program.phases for node in operators(phase.model.graph)]
    counts = {
        side: sum(side in (MEASURED.find(node) or ()) for node in nodes)
        for side in (Side.EDGE, Side.CLOUD)
    }
    said = (f"{count} of {len(nodes)} operators on the {side}" for side, count in counts.items())
    return f"measured: {', '.join(said)}; the others are modelled"


def _standings(chosen: Price, link: Link, strategies: Sequence[Strategy]) -> Iterator[Standing]:
    """The cut against everything on one machine."""
    for row in strategies:
        if row.name in ("all-edge", "all-cloud", "all-cloud-coded"):
            ratio = latency_ratio(chosen, row.price)
            yield Standing(row.name, ratio, row.why_not, changes_at(chosen, row.price, link))


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
    interval_s = read_weights(predictor).interval_s if predictor else 0.0
    tables = read_tables(actions) if actions else None
    switch = read_precision_table(precision_table) if precision_table else None
    ends = parse_backends(backend)
    stored = checkpoint or {}
    devices = {Side.EDGE: target.edge, Side.CLOUD: target.cloud}
    recipes = ends.recipes(devices, provider)
    with staged_folder(out) as folder:
        with WeightStore(folder) as store:
            if stored and not any(one.rewrites_weights for one in ends.builders.values()):
                store.prefetch(item.tensor(name) for name, item in stored.items())
            if not isinstance(program, Program):
                progress("load", 0, 1)
                with watched(progress):
                    program = program()
            unused = load_weights(program, stored) if stored else ""
            types = ends.conversions(program)
            planned = plan_program(program, target, pipeline, progress, types)
            overlap = check_overlap(program) if golden and model_check else ()
            if tables is not None:
                tables.check([variant.name for variant in planned.plan.variants])
            if switch is not None:
                switch.check([variant.precision for variant in planned.plan.variants])
            made = anatomy(trace_dataflow(program), planned.plan, planned.split, planned.interval_s)
            phases = whole_phases(program)
            if target.batch or any(one.name == "pack" for one in _passes(planned)):
                recipes = ends.for_many_rows(recipes)
            count = len(planned.plan.parts) + len(phases)
            models = bundle_models(program, planned.split, phases, ends.uncut)
            together = dict[str, ir.Model]()
            if sizes := parse_batches(target.batch):
                check_back_end(ends.names[Side.CLOUD])
                parts = planned.plan.parts
                with_batches, together = batched(
                    *(parts, planned.split.models, sizes), target.edge, target.cloud
                )
                planned = replace(planned, plan=replace(planned.plan, parts=with_batches))
            against: list[tuple[str, Finding]] = []
            for done, (path, side, model) in enumerate(models):
                progress("emit", done, count)
                builder = ends.builders[side]
                builder.prepare(model, path, recipes[side.value])
                if done < len(planned.plan.parts):
                    where = f"{planned.plan.parts[done].name} on {devices[side]}"
                    found = builder.findings(model, recipes[side.value])
                    against += [(where, each) for each in found]
                store.externalise(model)
                save(model, folder / path)
            for name, model in together.items():
                ends.builders[Side.CLOUD].prepare(model, name, recipes[Side.CLOUD.value])
                store.externalise(model)
                save(model, folder / "parts" / f"{name}.onnx")
        _refuse(against, backend)
        (folder / PLANNING).write_bytes(planning_bytes(made))
        write_initial(program, folder)
        recorder = Recorder(program, planned.plan, phases, folder, ends, progress)
        record, said = recorder.run(golden, model_check, model_tolerance)
        tolerances = ends.tolerances(program)
        add_file(folder, PRECISIONS, precision_table)
        add_file(folder, DRAFTS, Path(target.draft_table) if target.draft_table else None)
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
            predictor=add_file(folder, PREDICTORS, predictor),
            actions=add_file(folder, ACTIONS, actions),
            model_check=record,
            files=list_files(folder),
        )
        write_manifest(folder, manifest)
    more = filter(None, (unused, slow_samples(interval_s, planned.plan), *said, *overlap))
    return replace(planned, warnings=(*more, *planned.warnings)), read_bundle(out)


def _passes(planned: Planned) -> Sequence[Pass]:
    return parse_pipeline(planned.pipeline).passes


def write_initial(program: Program, folder: Path) -> None:
    """Write the initial values of state that are not zeros into a bundle's folder."""
    given = {
        state.input: state.first(program.state_spec(state))
        for state in program.state
        if state.initial is not None and program.reset_source(state.input) is None
    }
    if given:
        (folder / "initial.npz").write_bytes(npz_bytes(given))


def _refuse(against: Sequence[tuple[str, Finding]], backend: str) -> None:
    """Raise BackendError if anything stands against the parts."""
    if against:
        said = [f"{where}: {finding}" for where, finding in against[:_SHOWN_FINDINGS]]
        more = len(against) - len(said)
        rest = [f"and {more} more"] if more > 0 else []
        raise BackendError(
            f"{backend} cannot run {'; '.join([*said, *rest])} (change the model, --pin these "
            f"operators to a side that can, or take another --backend)"
        )


def _tools() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in _TOOLS}}
