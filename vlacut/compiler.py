"""The compiler: a program and a target in, a plan or a bundle out."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from vlacut import registry
from vlacut.annotation import ALTERNATIVES, CONVERTED, STRATEGIES, UNPRICED, Alternatives
from vlacut.bundle import FORMAT, Bundle, Manifest, list_files, read_bundle, write_manifest
from vlacut.dataflow import Dataflow, key_of, trace_dataflow, weights_of
from vlacut.emission import bundle_models, save, whole_phases
from vlacut.errors import InfeasibleError
from vlacut.golden import write_golden
from vlacut.graphs import dtype_name
from vlacut.hardware import Device, Link, load_device, parse_bytes, parse_link
from vlacut.pipeline import Timing, parse_pipeline
from vlacut.plan import CHOSEN, Plan, Variant
from vlacut.pool import FUSED, NO_POOL, SEGMENTS
from vlacut.pricing import Side, price
from vlacut.program import Program
from vlacut.split import Split, placements_of, split
from vlacut.staging import staged_folder
from vlacut.weights import WeightStore

Progress = Callable[[str, int, int], None]
_TOOLS = ("vlacut", "numpy", "onnx", "onnx-ir", "torch", "scipy")


@dataclass(frozen=True)
class Target:
    """What a program is cut for, as users write it.

    Attributes:
        edge, cloud: names of devices, or TOML files.
        link: see `vlacut.hardware.link`.
        cloud_budget: most bytes of weights in the cloud, e.g. `12.1GB`; empty for no limit.
        pool: `none`, `block` or `portfolio:BYTES`: see the pass `alternatives`.
        pool_engines: `segments` or `fused`.
        bandwidth: what the pool is chosen for: see `vlacut.hardware.bandwidths`.
    """

    edge: str
    cloud: str
    link: str
    cloud_budget: str = ""
    pool: str = "none"
    pool_engines: str = SEGMENTS
    bandwidth: str = "0.1MB/s-100MB/s"

    def pipeline(self, conversions: Mapping[str, str] | None = None) -> str:
        """Text of the default pipeline for this target, types converted first."""
        passes = ["simplify"]
        for source, target in (conversions or {}).items():
            passes.append(f"convert-types{{source={source} target={target}}}")
        budget = f" cloud-budget={self.cloud_budget}" if self.cloud_budget else ""
        passes += [
            "annotate-structure",
            f"annotate-cost{{edge={self.edge} cloud={self.cloud}}}",
            f"partition{{link={self.link}{budget}}}",
        ]
        if self.pool != "none":
            options = f"link={self.link} pool={self.pool} bandwidth={self.bandwidth}"
            passes.append(f"alternatives{{{options} engines={self.pool_engines}}}")
        return ",".join(passes)


@dataclass(frozen=True)
class Planned:
    """A plan, and what it was made of.

    Attributes:
        plan: what runs where.
        split: the parts with their operators.
        timings: of the passes.
        pipeline: text of the pipeline that ran.
        warnings: what a user should know of the plan, a line each.
        converted: which element type became which, for the back end; empty if none did.
    """

    plan: Plan
    split: Split
    timings: tuple[Timing, ...]
    pipeline: str
    warnings: tuple[str, ...]
    converted: str


def _silent(*_: object) -> None:
    """Progress that nobody watches."""


def plan_program(
    program: Program, target: Target, pipeline: str = "", progress: Progress = _silent
) -> Planned:
    """Annotate and cut a program, in place, for a target.

    Raises InputError where the request is at fault, PassError where a pass is.
    """
    edge, cloud = load_device(target.edge), load_device(target.cloud)
    link = parse_link(target.link)
    passes = parse_pipeline(pipeline or target.pipeline())
    budget = parse_bytes(target.cloud_budget) if target.cloud_budget else cloud.memory_bytes
    _check_memory(program, edge, min(budget, cloud.memory_bytes))
    timings = passes.run(program, progress)
    flow = trace_dataflow(program)
    parts = split(flow, link)
    pooled = ALTERNATIVES.find(program) or Alternatives((CHOSEN,), NO_POOL)
    variants = _variants(flow, parts, pooled.names, link)
    plan = Plan(
        program=program.name,
        edge=edge.name,
        cloud=cloud.name,
        link=link,
        inputs=program.inputs,
        outputs={
            spec.name: key_of(program, program.output_source(spec.name)) for spec in program.outputs
        },
        tensors=parts.tensors,
        parts=parts.parts,
        variants=variants,
        strategies=STRATEGIES.get(program),
        pool=pooled.pool,
    )
    converted = CONVERTED.find(program) or ""
    warnings = tuple(_warnings(program, edge, plan))
    return Planned(plan, parts, timings, str(passes), warnings, converted)


def _variants(
    flow: Dataflow, parts: Split, names: Sequence[str], link: Link
) -> tuple[Variant, ...]:
    costs = flow.cost_graph()
    made = zip(names, parts.schedules, placements_of(flow), strict=True)
    return tuple(
        Variant(name, schedule, price(costs, sides, link)) for name, schedule, sides in made
    )


def _check_memory(program: Program, edge: Device, cloud_bytes: int) -> None:
    """Raise InfeasibleError if the two machines together cannot hold the weights."""
    total = sum(weights_of(program).values())
    over = total - edge.memory_bytes - cloud_bytes
    if over > 0:
        raise InfeasibleError(
            f"the weights of {program.name} are {total / 1e9:.4g} GB, {over / 1e9:.4g} GB more "
            f"than {edge.name} ({edge.memory_bytes / 1e9:.4g} GB) and the cloud "
            f"({cloud_bytes / 1e9:.4g} GB) hold together; raise --cloud-budget"
        )


def _warnings(program: Program, edge: Device, plan: Plan) -> Iterator[str]:
    unpriced = UNPRICED.find(program)
    if unpriced:
        yield f"no cost rule, priced by their bytes: {', '.join(unpriced)}"
    held = {name for part in plan.parts if part.side is Side.EDGE for name in part.weights}
    nbytes = weights_of(program)
    over = sum(nbytes[name] for name in held) - edge.memory_bytes
    if over > 0:
        yield f"the edge's weights exceed the memory of {edge.name} by {over / 1e9:.4g} GB"
    for form in plan.pool.forms:
        if form.form == plan.pool.engines == FUSED and form.edge_bytes > edge.memory_bytes:
            yield (
                f"engines that hold their weights themselves would take {form.edge_bytes / 1e9:.4g}"
                f" GB; {edge.name} has {edge.memory_bytes / 1e9:.4g} GB; segments take less"
            )


def compile_program(
    program: Program,
    target: Target,
    out: Path,
    *,
    backend: str = "onnxruntime",
    pipeline: str = "",
    golden: bool = True,
    progress: Progress = _silent,
) -> tuple[Planned, Bundle]:
    """Plan a program, emit both sides' parts, and write the bundle at `out`.

    Until the last moment `out` is untouched. With `golden`, one step of the uncut model is run on
    this machine and recorded.

    Raises InputError, PassError, BackendError, or BundleError if `out` cannot be written.
    """
    builder = registry.load("builders", backend)()
    text = pipeline or target.pipeline(_needed(builder.conversions, program))
    planned = plan_program(program, target, text, progress)
    phases = whole_phases(program)
    with staged_folder(out) as folder:
        store = WeightStore(folder)
        count = len(planned.plan.parts) + len(phases)
        for done, (path, model) in enumerate(bundle_models(program, planned.split, phases)):
            progress("emit", done, count)
            builder.prepare(model, path)
            store.externalise(model)
            save(model, folder / path)
        if golden:
            progress("golden", 0, 1)
            write_golden(program, phases, folder, backend, builder.recipe())
        manifest = Manifest(
            format=FORMAT,
            plan=planned.plan,
            backend=backend,
            recipe=builder.recipe(),
            tolerance=max(builder.tolerance(phase.graph) for phase in program.phases),
            whole=phases,
            pipeline=planned.pipeline,
            tools=_tools(),
            files=list_files(folder),
        )
        write_manifest(folder, manifest)
    return planned, read_bundle(out)


def _needed(conversions: Mapping[str, str], program: Program) -> dict[str, str]:
    """Those conversions whose source a program has."""
    found = {
        dtype_name(value.dtype)
        for phase in program.phases
        for node in phase.graph.graph.all_nodes()
        for value in (*node.inputs, *node.outputs)
        if value is not None and value.dtype is not None
    }
    return {source: target for source, target in conversions.items() if source in found}


def _tools() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in _TOOLS}}
