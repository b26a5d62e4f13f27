"""Precisions: the program once more in other element types, as more variants of one plan.

A precision is what `--precisions` lists: a type (`int8`, `int4`), or types by phase
(`prefill=int8+decode=int4`) or by side (see `by_side`). The passes before `annotate-structure` run
once, so weights that a precision leaves alone are one tensor. Then every precision has its own copy
of the program, is rounded, priced and cut as the program itself is; see `offering` for what becomes
of its cuts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vlacut.compiler.by_side import rounded_by_side
from vlacut.compiler.precision_list import BySide
from vlacut.compiler.simplified import run_passes_once
from vlacut.errors import InputError, PassError, Progress
from vlacut.ir.annotation import CUTS, ROUNDED
from vlacut.ir.pipeline import Pipeline, Timing, parse_pipeline
from vlacut.ir.program import Program, copied

_DIVIDES = "annotate-structure"  # what is before it rewrites; it and the rest annotate


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
    if len(precisions) > 1:
        ROUNDED.put(program, {})
    precise = {name: copied(program) for name in precisions}
    ROUNDED.drop(program)
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
    for one in precise.values():
        ROUNDED.drop(one)
    return Passed(tuple(timings), precise)
