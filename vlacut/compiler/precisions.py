"""Precisions: the program once more in other element types, as more variants of one plan.

A precision is what `--precisions` lists: a type (`int8`, `int4`), or types by phase
(`prefill=int8+decode=int4`) or by side (see `by_side`). The passes before `annotate-structure` run
once, so weights that a precision leaves alone are one tensor. Then every precision has its own copy
of the program, is rounded, priced and cut as the program itself is, and joins its parts to the
bundle's. How far each of its variants moves the action is measured against the uncut program as it
is. A variant that is nowhere faster than one that errs no more is left out, and said.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from vlacut.compiler.by_side import rounded_by_side
from vlacut.compiler.precision_list import BySide
from vlacut.compiler.simplified import run_passes_once
from vlacut.compiler.variants import variants_of
from vlacut.errors import BackendError, InputError, PassError, Progress
from vlacut.hardware import Link
from vlacut.ir.annotation import CONVERTED, CUTS
from vlacut.ir.dataflow import Dataflow, cuts_of, trace_dataflow
from vlacut.ir.graphs import value_spec
from vlacut.ir.pipeline import Pipeline, Timing, parse_pipeline
from vlacut.ir.program import Program, copied
from vlacut.plans.plan import Variant
from vlacut.plans.pool import FUSED
from vlacut.pricing.coding import ActionError
from vlacut.pricing.cut import Cut
from vlacut.pricing.dominance import crossings
from vlacut.pricing.price import Price
from vlacut.split.gauge import Gauge, gauging
from vlacut.split.joining import Joiner
from vlacut.split.observations import not_runnable
from vlacut.split.parts import Split, split_at

_DIVIDES = "annotate-structure"  # what is before it rewrites; it and the rest annotate
_MARGIN = 1.25  # over what was measured: another processor rounds otherwise


@dataclass(frozen=True)
class Passed:
    """The program as it is and in its precisions, all annotated and cut.

    Attributes:
        timings: of all passes.
        precise: the program in every precision, by its name.
    """

    timings: tuple[Timing, ...]
    precise: Mapping[str, Program]


def run_passes(
    program: Program,
    passes: Pipeline,
    precisions: Mapping[str, str | BySide],
    progress: Progress,
) -> Passed:
    """Run a pipeline on a program, in place, and on a copy of it in every precision, whose passes
    are given by its name.

    Raises InputError for a pipeline that says not where precisions come in, PassError from a pass,
    with the precision.
    """
    if not precisions:
        return Passed(run_passes_once(program, passes, progress), {})
    names = [one.name for one in passes.passes]
    if _DIVIDES not in names or "quantise" in names:
        raise InputError(
            f"--precisions are beside the program as it is, and come in before {_DIVIDES}: the "
            f"pipeline must have that, and no quantise (leave --quantise out)"
        )
    place = names.index(_DIVIDES)
    before, after = Pipeline(passes.passes[:place]), Pipeline(passes.passes[place:])
    timings = list(run_passes_once(program, before, progress))
    precise = {name: copied(program) for name in precisions}
    timings += after.run(program, progress)
    for name, asked in precisions.items():
        CUTS.drop(precise[name])
        try:
            if isinstance(asked, BySide):
                precise[name], spent = rounded_by_side(precise[name], asked, after)
                timings += spent
            else:
                own = parse_pipeline(asked)
                timings += Pipeline((*own.passes, *after.passes)).run(precise[name], progress)
        except (PassError, InputError) as error:
            error.add_note(f"(in --precisions {name})")
            raise
    return Passed(tuple(timings), precise)


@dataclass(frozen=True)
class Joint:
    """The parts of all precisions, and the variants beside those of the program as it is.

    Attributes:
        split: all parts.
        variants: of the precisions, in the order in which they were asked for.
        weights: bytes of the weights of the parts, by name in the bundle; none without variants.
        converted: what was rounded, a text for each precision.
        left_out: variants that are not offered, and why, a line each.
    """

    split: Split
    variants: tuple[Variant, ...]
    weights: Mapping[str, int]
    converted: tuple[str, ...]
    left_out: tuple[str, ...]


def join(
    program: Program,
    made: Split,
    variants: Sequence[Variant],
    precise: Mapping[str, Program],
    link: Link,
    fixed: Iterable[str],
) -> Joint:
    """Join the variants of precisions to those of a program.

    Args:
        program: as it is, cut.
        made: its parts.
        variants: its own.
        precise: the program in every precision, cut.
        link: that all are planned for.
        fixed: keys that all must have alike.

    Raises InputError where they do not.
    """
    if not precise:
        return Joint(made, (), {}, (), ())
    joiner, offered, left_out = Joiner(made), list(variants), list[str]()
    for name, other in precise.items():
        dataflow = trace_dataflow(other)
        cuts, kept = cuts_of(dataflow), dict[str, Cut]()
        errors = _errors(program, dataflow, cuts.variants, link)
        for cut, error in zip(cuts.variants, errors, strict=True):
            called = f"{cut.name}@{name}"
            why_not = _why_not(cut, error, _known(offered, kept), link)
            if why_not:
                left_out.append(f"{called} is left out: {why_not}")
            else:
                kept[called] = replace(cut, name=called, error=error)
        if kept:
            own = split_at(dataflow, tuple(kept.values()), link, cuts.pool.engines == FUSED)
            joined = joiner.add(name, own, fixed)
            own = replace(own, schedules=joined.schedules, firsts=joined.firsts)
            made_of = variants_of(dataflow, tuple(kept.values()), own, link)
            offered += (_renamed(one, name, joined.keys) for one in made_of)
    return Joint(
        joiner.split,
        tuple(offered[len(variants) :]),
        _weights(joiner.split),
        tuple(f"{name}: {CONVERTED.find(one)}" for name, one in precise.items()),
        tuple(left_out),
    )


def _errors(
    program: Program, dataflow: Dataflow, cuts: Sequence[Cut], link: Link
) -> list[ActionError]:
    """How far each cut of a precision moves the action of the program as it is."""
    why_not = not_runnable(dataflow.program)
    if not why_not:
        try:
            with gauging(dataflow, link, against=program) as gauge:
                return [_measured(gauge, cut) for cut in cuts]
        except BackendError as error:
            why_not = f"this machine cannot run it: {error}"
    return [ActionError(None, None, 0, why_not) for _ in cuts]


def _measured(gauge: Gauge, cut: Cut) -> ActionError:
    error = gauge.error(cut.sides, {one.tensor: one.codec for one in cut.crossings})
    return ActionError(error, error * _MARGIN, gauge.observations)


def _known(
    offered: Iterable[Variant], kept: Mapping[str, Cut]
) -> Iterator[tuple[str, Price, ActionError]]:
    """Names, prices and errors of what is offered already."""
    yield from ((one.name, one.price, one.action_error) for one in offered)
    yield from ((name, cut.price, cut.error) for name, cut in kept.items())


def _why_not(
    cut: Cut, error: ActionError, offered: Iterable[tuple[str, Price, ActionError]], link: Link
) -> str:
    """Why a variant is not worth offering; empty if it is."""
    if error.measured is not None and not math.isfinite(error.measured):
        return "its action holds a NaN or an infinity"
    for name, price, known in offered:
        errs = _more(known.measured, error.measured)
        slower = price.total_s > cut.price.total_s or crossings(cut.price, price, link)
        if not errs and not slower:
            return f"it is nowhere faster than {name}, which errs no more"
    return ""


def _more(one: float | None, other: float | None) -> bool:
    """Whether an error is more than another, or may be, for one is not known."""
    return one is None or other is None or one > other


def _renamed(variant: Variant, precision: str, keys: Mapping[str, str]) -> Variant:
    """The variant with its coded crossings in the names of the bundle."""
    coded = tuple(replace(one, tensor=keys[one.tensor]) for one in variant.coded)
    return replace(variant, coded=coded, precision=precision)


def _weights(made: Split) -> dict[str, int]:
    return {
        name: value_spec(value).nbytes
        for model in made.models
        for name, value in model.graph.initializers.items()
    }
