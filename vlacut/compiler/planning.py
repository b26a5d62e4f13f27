"""Planning: a program and a target in, a plan and the parts out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from vlacut.compiler.advice import advice
from vlacut.compiler.conversions import NONE, Conversions
from vlacut.compiler.offering import join
from vlacut.compiler.precision_list import parse_precisions
from vlacut.compiler.precisions import run_passes
from vlacut.compiler.refusals import Refusals
from vlacut.compiler.target import Target
from vlacut.compiler.target_pipeline import check_pipeline, pipeline_for
from vlacut.compiler.variants import variants_of
from vlacut.compiler.ways import choose_way
from vlacut.errors import InputError, Progress, unwatched
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
    types_text,
)
from vlacut.ir.bindings import doubtful_bindings
from vlacut.ir.dataflow import cuts_of, trace_dataflow, weights_of
from vlacut.ir.graphs import operators
from vlacut.ir.pipeline import Timing, parse_pipeline
from vlacut.ir.program import Program
from vlacut.ir.rolling import unrolled_loops
from vlacut.ir.uses import key_of
from vlacut.plans.plan import Plan
from vlacut.plans.pool import Considered
from vlacut.plans.ways import Way
from vlacut.pricing.dominance import Standing, changes_at, latency_ratio
from vlacut.pricing.price import Price, Strategy
from vlacut.pricing.roofline import interval
from vlacut.runtime.cloud.footprint import cloud_memory
from vlacut.split.own_types import in_own_types
from vlacut.split.parts import Split, plan_states, split
from vlacut.split.printer import print_split


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
    conversions: Conversions = NONE,
    refusals: Refusals | None = None,
) -> Planned:
    """Annotate and cut a program, in place, for a target.

    Args:
        program: what to cut.
        target: what for.
        pipeline: passes to run instead of the target's.
        progress: called with what is being done, how much is done, and how much there is.
        conversions: of types that executors lack.
        refusals: what back ends cannot run of the precisions that are asked for beside the program;
            None if they are not known.

    Raises InputError if the request is at fault, PassError if a pass is, UnsupportedError if the
    back ends run none of the precisions.
    """
    target.check()
    if pipeline and target.undecided:
        raise InputError(
            "--in-flight auto, --draft auto and --minimise age are for the default pipeline; name "
            "in-flight or draft in yours"
        )
    doubtful = (*doubtful_bindings(program), *unrolled_loops(program))
    choice = choose_way(program, target, conversions, progress, pipeline)
    target = choice.target
    edge, cloud = load_device(target.edge), load_device(target.cloud)
    link = target.network()
    passes = parse_pipeline(pipeline or pipeline_for(target, conversions))
    check_pipeline(target, passes)
    forget(program)
    if target.state_copies:
        STATE_COPIES.put(program, True)
    passed = run_passes(
        program, passes, parse_precisions(target.precisions, target.rounding), progress
    )
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
    joint = join(program, parts, variants, passed.precise, cuts.asked.link, same, refusals)
    states_too = (one for s in states for one in (s.source, s.reset) if one)
    owned = in_own_types(joint.split, conversions.sides, (*same, *states_too))
    parts, weights = owned.split, {**weights_of(program), **joint.weights, **owned.weights}
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
        left_out=joint.left_out,
    )
    target.check_age(plan.age_s)
    plan = replace(plan, memory=cloud_memory(plan, cloud.memory_bytes, weights))
    own = types_text(conversions.sides)
    converted = "; ".join(filter(None, (CONVERTED.find(program), own, *joint.converted)))
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
