"""Which way a program's loop runs: every way is rewritten, cut and priced on its own.

A way is the program trip by trip, with so many requests in flight, or over drafts. What precedes
the rewriting runs once for all of them, and their weights are the same tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from vlacut.compiler.conversions import Conversions
from vlacut.compiler.rounding_options import quick_rounding
from vlacut.compiler.simplified import run_passes_once, simplify_ahead
from vlacut.compiler.target import Target
from vlacut.compiler.target_pipeline import pipeline_for
from vlacut.errors import InputError, PassError, Progress
from vlacut.hardware import parse_seconds
from vlacut.ir.annotation import STATE_COPIES, WARMING, WEIGHT_PASSES, forget
from vlacut.ir.dataflow import cuts_of, trace_dataflow
from vlacut.ir.pipeline import Pass, Pipeline, parse_pipeline
from vlacut.ir.program import Program, copied
from vlacut.plans.ways import PLAIN, Way
from vlacut.pricing.price import Price

MOST_TRIED = 16  # requests in flight: a graph of more trips takes long to pack
_REWRITES = ("draft", "in-flight")
_JOINS = "pack"  # products of the rows that a way has at once
_DIVIDES = "annotate-structure"  # what is before it rewrites
_LAST = "partition"


@dataclass(frozen=True)
class Choice:
    """The way that was chosen.

    Attributes:
        target: with it, instead of what the planner was to choose.
        ways: all that were priced, in the order in which they were; without the one that the target
            has, if that was asked for by name.
    """

    target: Target
    ways: tuple[Way, ...] = ()

    def rows(self, program: Program, step: Price) -> tuple[Way, ...]:
        """All ways, the one taken marked; none where the program has one way alone.

        `program` is as planned, and `step` its price.
        """
        if not self.ways:
            return ()
        own = replace(_way(self.target, program, step), taken=True)
        rows = [own if one.name == own.name else one for one in self.ways]
        return tuple(rows) if own in rows else (*rows, own)


def choose_way(
    program: Program,
    target: Target,
    conversions: Conversions,
    progress: Progress,
    pipeline: str = "",
) -> Choice:
    """The way for a target: the least of what it minimises, within its bound on age.

    It is chosen for the program as it is, which selectors that go by time take; precisions are
    priced in the way that is taken. Weights are rounded to the nearest meanwhile, for no price
    depends on codes.

    The program is simplified, if the passes begin with that, and is else left as it is. `pipeline`
    are passes of the user's own, which have the way that the target has; trip by trip is priced by
    them without it. Raises InputError where no way is allowed, PassError from a pass that all ways
    have.
    """
    if not target.asks_for_a_way:
        return Choice(target)
    plain = replace(target, draft="", in_flight=0)
    others = list(_asked(program, target)) if target.undecided else []
    shared, _ = _divided(others[0] if others else plain, conversions, pipeline)
    simplify_ahead(program, Pipeline(shared), progress)
    base = copied(program)
    forget(base)
    if target.state_copies:
        STATE_COPIES.put(base, True)
    run_passes_once(base, Pipeline(shared), progress)
    found: list[Way] = []
    for done, one in enumerate((plain, *others)):
        progress("ways to run the loop", done, 1 + len(others))
        way = _priced(base, one, _divided(one, conversions, pipeline)[1])
        if not any(way.name == known.name for known in found):
            found.append(way)
    if not target.undecided:
        return Choice(target, tuple(found))
    ways = tuple(_held_to(one, target) for one in found)
    best = _best(ways, target)
    return Choice(replace(target, draft=best.draft, in_flight=best.in_flight), ways)


def _asked(program: Program, target: Target) -> Iterator[Target]:
    """Targets of the ways beside trip by trip that the planner may choose."""
    loops = [one for one in program.phases if one.trips > 1 and not one.on_reset]
    if target.chooses_in_flight and len(loops) == 1 and not program.state:
        for requests in range(2, min(loops[0].trips + 1, MOST_TRIED) + 1):
            yield replace(target, draft="", in_flight=requests)
    table = target.measured_drafts if target.chooses_draft else None
    for source in table.counts if table is not None else ():
        yield replace(target, draft=source, in_flight=0)


def _divided(
    target: Target, conversions: Conversions, pipeline: str
) -> tuple[tuple[Pass, ...], tuple[Pass, ...]]:
    """The passes before a target's way and the others, up to the cut."""
    asked = parse_pipeline(pipeline or pipeline_for(target, conversions)).passes
    passes = tuple(quick_rounding(one) for one in asked)
    if pipeline and not target.packs:
        passes = tuple(one for one in passes if one.name not in (*_REWRITES, _JOINS))
    names = [one.name for one in passes]
    if _LAST not in names:
        raise InputError(f"the pipeline has no {_LAST}; write it there, or leave --pipeline out")
    start = next(place for place, name in enumerate(names) if name in (*_REWRITES, _DIVIDES, _LAST))
    return passes[:start], passes[start : names.index(_LAST) + 1]


def _priced(base: Program, target: Target, passes: Sequence[Pass]) -> Way:
    program = copied(base)
    try:
        Pipeline(tuple(passes)).run(program)
    except (InputError, PassError) as error:  # a pin of a phase that another way has, say
        requests = int(target.in_flight)
        name, why_not = _name(requests, target.draft), str(error).partition("; ")[0]
        return Way(name=name, in_flight=requests, draft=target.draft, why_not=why_not)
    return _way(target, program, cuts_of(trace_dataflow(program)).chosen.price)


def _way(target: Target, program: Program, step: Price) -> Way:
    """A program as planned, as a way."""
    warming = WARMING.find(program) or 0
    in_flight = warming + 1 if target.in_flight else 0  # fewer suffice for as many passes
    plain = max((one.trips for one in program.phases if not one.on_reset), default=1)
    return Way(
        name=_name(in_flight, target.draft),
        in_flight=in_flight,
        draft=target.draft,
        passes=WEIGHT_PASSES.find(program) or plain,
        step_s=step.total_s,
        warming=warming,
        cloud_s=step.cloud_s,
        edge_j=step.edge_j,
    )


def _name(in_flight: int, draft: str) -> str:
    if draft:
        return f"drafts: {draft}"
    return f"{in_flight} in flight" if in_flight else PLAIN


def _held_to(way: Way, target: Target) -> Way:
    """A way, not allowed if its action in force would be too old."""
    if way.why_not or not target.max_age or way.age_s <= parse_seconds(target.max_age):
        return way
    return replace(way, why_not=f"its actions would be older than {target.max_age}")


def _best(ways: Sequence[Way], target: Target) -> Way:
    allowed = [one for one in ways if not one.why_not]
    if not allowed:
        young = min(ways, key=lambda one: one.age_s)
        least = f"; the youngest is {young.age_s * 1e3:.3g} ms old on average ({young.name})"
        raise InputError(
            f"no way to run the loop is allowed: {PLAIN}: {ways[0].why_not}"
            f"{least if math.isfinite(young.age_s) else ''}"
        )
    goals = {"age": "age_s", "cloud-time": "cloud_s", "energy": "edge_j"}
    goal = goals.get(target.minimise, "step_s")
    return min(allowed, key=lambda one: float(getattr(one, goal)))
