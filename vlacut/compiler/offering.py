"""What is offered of precisions: their cuts as variants beside those of the program as it is.

Every precision joins its parts to the bundle's. How far each of its variants moves the action is
measured against the uncut program as it is. A variant that is nowhere faster than one that errs no
more is left out, and said; so is one that a back end cannot run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from vlacut.compiler.refusals import Refusals
from vlacut.compiler.variants import variants_of
from vlacut.errors import BackendError, UnsupportedError
from vlacut.hardware import Link
from vlacut.ir.annotation import CONVERTED
from vlacut.ir.dataflow import Dataflow, cuts_of, trace_dataflow
from vlacut.ir.graphs import value_spec
from vlacut.ir.program import Program
from vlacut.plans.instructions import runs
from vlacut.plans.plan import Variant
from vlacut.plans.pool import FUSED
from vlacut.pricing.coding import ActionError
from vlacut.pricing.cut import Cut
from vlacut.pricing.dominance import crossings
from vlacut.pricing.price import Price
from vlacut.split.gauge import Gauge, gauging
from vlacut.split.joining import Joiner
from vlacut.split.observations import not_runnable, not_runnable_beside
from vlacut.split.parts import Split, split_at

_MARGIN = 1.25  # over what was measured: another processor rounds otherwise


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
    refusals: Refusals | None = None,
) -> Joint:
    """Join the variants of precisions to those of a program.

    Args:
        program: as it is, cut.
        made: its parts.
        variants: its own.
        precise: the program in every precision, cut.
        link: that all are planned for.
        fixed: keys that all must have alike.
        refusals: what back ends cannot run; None if they are not known.

    Raises InputError where they do not, UnsupportedError if back ends run none of the precisions.
    """
    if not precise:
        return Joint(made, (), {}, (), ())
    joiner, offered, left_out = Joiner(made), list(variants), list[str]()
    refused = dict[str, str]()
    asked = 0
    for name, other in precise.items():
        dataflow = trace_dataflow(other)
        cuts = cuts_of(dataflow)
        fused = cuts.pool.engines == FUSED
        why_nots = _refused(dataflow, cuts.variants, link, fused, fixed, refusals)
        refused |= {f"{cut}@{name}": why_not for cut, why_not in why_nots.items()}
        asked += len(cuts.variants)
        able = [
            replace(cut, name=f"{cut.name}@{name}")
            for cut in cuts.variants
            if cut.name not in why_nots
        ]
        kept, dominated = _worthwhile(able, _errors(program, dataflow, able, link), offered, link)
        left_out += dominated
        if kept:
            own = split_at(dataflow, tuple(kept.values()), link, fused)
            joined = joiner.add(name, own, fixed)
            own = replace(own, schedules=joined.schedules, firsts=joined.firsts)
            made_of = variants_of(dataflow, tuple(kept.values()), own, link)
            offered += (_renamed(one, name, joined.keys) for one in made_of)
    if len(refused) == asked:
        raise UnsupportedError(_none_runs(refused))
    return Joint(
        joiner.split,
        tuple(offered[len(variants) :]),
        _weights(joiner.split),
        tuple(f"{name}: {CONVERTED.find(one)}" for name, one in precise.items()),
        (*(f"{name} is left out: {why_not}" for name, why_not in refused.items()), *left_out),
    )


def _refused(
    dataflow: Dataflow,
    cuts: Sequence[Cut],
    link: Link,
    fused: bool,
    fixed: Iterable[str],
    refusals: Refusals | None,
) -> dict[str, str]:
    """Cuts that back ends cannot run, by name, and the first reason of each."""
    if refusals is None:
        return {}
    tried = split_at(dataflow, cuts, link, fused)
    why_not = refusals(tried, fixed)
    found = {}
    for cut, first, schedule in zip(cuts, tried.firsts, tried.schedules, strict=True):
        said = [why_not[part] for part in runs((*first, *schedule)) if part in why_not]
        if said:
            found[cut.name] = said[0]
    return found


def _none_runs(refused: Mapping[str, str]) -> str:
    name, why_not = next(iter(refused.items()))
    others = len(refused) - 1
    more = f", nor {others} others, for the like" if others > 1 else ""
    more = ", nor another, for the like" if others == 1 else more
    return (
        f"--precisions: no variant would run: not {name}: {why_not}{more}; leave --precisions out "
        f"for the program as it is"
    )


def _errors(
    program: Program, dataflow: Dataflow, cuts: Sequence[Cut], link: Link
) -> list[ActionError]:
    """How far each cut of a precision moves the action of the program as it is."""
    why_not = not_runnable(dataflow.program) or not_runnable_beside(program)
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


def _worthwhile(
    cuts: Sequence[Cut], errors: Sequence[ActionError], offered: Sequence[Variant], link: Link
) -> tuple[dict[str, Cut], list[str]]:
    """The cuts that are worth offering, by name and with their errors; of the others, why not."""
    kept, left_out = dict[str, Cut](), list[str]()
    for cut, error in zip(cuts, errors, strict=True):
        why_not = _why_not(cut, error, _known(offered, kept), link)
        if why_not:
            left_out.append(f"{cut.name} is left out: {why_not}")
        else:
            kept[cut.name] = replace(cut, error=error)
    return kept, left_out


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
