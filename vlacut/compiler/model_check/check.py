"""What is compared: model and uncut program on the example, and on variations of it.

torch.export and ONNX's exporter can be wrong without a word: they decide a mask while they trace,
or leave a cast out. So model and program both run on the example observation and on two variations
of it. A variation draws floats, whole numbers and masks anew, because an example of ones hides a
mask. If the model does not take that, one variation draws only floats anew. Every phase gets the
inputs that it has in the model itself; so a difference belongs to its phase, and does not grow from
phase to phase. Every output is compared, in the first trip of a loop and in the last.

The cost: on the example, each phase runs as often as in a control step, at most `_MOST_TRIPS` times
(`walk`). On a variation, a loop runs two trips. The model is already in memory, and the uncut
program maps its weights from the bundle's files. If the weights exceed `_LARGE` bytes, there is one
variation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from vlacut.backend import Engine
from vlacut.bundle.contents import WholePhase
from vlacut.bundle.model_check import ModelCheck
from vlacut.compiler.model_check.differences import EXAMPLE, Difference
from vlacut.compiler.model_check.verdict import TOLERANCES, flips, worst_of
from vlacut.compiler.model_check.walk import NotTaken, Walk
from vlacut.errors import InputError, Progress, unwatched
from vlacut.ir.annotation import COUNTED, FIXED
from vlacut.ir.dataflow import weights_of
from vlacut.ir.original import PRECISIONS, Original, precision_of
from vlacut.ir.program import Program
from vlacut.split.observations import example_observation
from vlacut.tensor.numerics import FLOATS, MASKED, probing

_LARGE = 4 << 30


def check_tolerance(tolerance: float | None) -> None:
    """Raise InputError for a number that is no tolerance."""
    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise InputError(
            f"--model-tolerance: {tolerance:g}: write a share of an output's magnitude: 0.001"
        )


def check_model(
    program: Program,
    original: Original,
    phases: Sequence[WholePhase],
    engines: Mapping[str, Engine],
    tolerance: float | None,
    progress: Progress = unwatched,
) -> tuple[ModelCheck, tuple[str, ...]]:
    """The record of the check, and a line on it for the user.

    Args:
        program: the program that is compiled, after its passes.
        original: the model it came from, which must be able to run.
        phases: the uncut phases.
        engines: their engines, by name.
        tolerance: the largest share allowed; None takes the one of the coarsest element type.
        progress: is called before every run of a phase of the model.

    Raises ModelDiffers naming the output that is the furthest off, if one is too far.
    """
    coarsest = max(original.precision, precision_of(program), key=PRECISIONS.index)
    allowed = TOLERANCES[coarsest] if tolerance is None else tolerance
    walk = Walk(program, original, phases, engines, progress)
    found, observations, warnings = _walked(program, original, walk)
    warnings += flips(found, coarsest)
    worst = worst_of(program, original, found, coarsest, allowed)
    record = ModelCheck(
        original.what,
        "",
        _rounded(worst.difference),
        _rounded(worst.magnitude),
        f"{worst.output}, {worst.run}",
        allowed,
        observations,
    )
    return record, tuple(warnings)


def _walked(
    program: Program, original: Original, walk: Walk
) -> tuple[list[Difference], int, list[str]]:
    """The differences on the example and its variations, of how many observations, and warnings."""
    example = example_observation(program)
    seeds = [MASKED] if sum(weights_of(program).values()) > _LARGE else [MASKED, MASKED + 1]
    kept = {
        name: example[name]
        for name in (*(FIXED.find(program) or ()), *(COUNTED.find(program) or ()))
    }
    found, observations, warnings = list(walk.run(example, EXAMPLE)), 1, list[str]()
    while seeds:
        seed = seeds.pop(0)
        varied = {**probing(program.inputs, example, seed), **kept}
        changed = [name for name in example if not np.array_equal(example[name], varied[name])]
        if not changed:
            continue
        try:
            run = f"a variation of it, {', '.join(changed)} drawn anew"
            found += list(walk.run(varied, run))
            observations += 1
        except NotTaken as error:
            warnings.append(f"{original.what} does not take other whole numbers: {error}")
            seeds = [FLOATS] if seed == MASKED else []
    return found, observations, warnings


def _rounded(figure: float) -> float:
    """To two digits: the last ones depend on how many threads there are."""
    return float(f"{figure:.2g}")
