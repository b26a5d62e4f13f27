"""What differences come to: which ones count, how large they may be, and what is said of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vlacut.compiler.model_check.differences import EXAMPLE, Difference
from vlacut.errors import ModelDiffers
from vlacut.ir.original import PRECISIONS, Original
from vlacut.ir.program import Program

# The largest difference allowed, as a share of the output's largest magnitude. Where types are
# mixed the coarsest counts. Measured: the zoo in float32 stays below 2e-6, in float16 below
# 3e-3, in bfloat16 below 3e-2 (`tools/precision_error.py`). In 4 bits it is what 95 % of random
# stacks of one to six products stay within by GPTQ, 0.511 of 40, rounded down to a tenth; 8 bits
# stay within 0.202 there (`tools/rounding_error.py --random 40`).
TOLERANCES = dict(zip(PRECISIONS, (1e-6, 1e-4, 2e-2, 5e-2, 0.25, 0.5), strict=True))
# In these a choice between two may fall otherwise.
_ROUNDING = ("float16", "bfloat16", "8 bits", "4 bits")


def worst_of(
    program: Program, original: Original, found: Sequence[Difference], coarsest: str, allowed: float
) -> Difference:
    """The difference that is the largest share of its output's magnitude.

    Args:
        program: that is compared.
        original: the model that it is compared with.
        found: every difference.
        coarsest: the coarsest element type of either.
        allowed: the largest share.

    Raises ModelDiffers if it is too large: of the worst one on the example, if one there is.
    """
    counted = _counted(found, coarsest)
    too_far = [one for one in counted if not one.share <= allowed]
    if too_far:
        on_example = [one for one in too_far if one.run.startswith(EXAMPLE)]
        worst = max(on_example or too_far, key=lambda one: one.share)
        raise ModelDiffers(_refusal(program, original, worst, allowed))
    return max(counted, key=lambda one: one.share)


def _counted(found: Sequence[Difference], coarsest: str) -> list[Difference]:
    """Those that a verdict is made of: beside coarse numbers whole ones only warn."""
    floats = [one for one in found if not one.exact]
    return floats if floats and coarsest in _ROUNDING else list(found)


def flips(found: Sequence[Difference], coarsest: str) -> Iterator[str]:
    """A line for every output of whole numbers that differs where rounding may be the cause."""
    for output in dict.fromkeys(one.output for one in found if one.exact and one.difference):
        if coarsest in _ROUNDING:  # in finer types they are refused
            yield (
                f"{output} holds whole numbers, and they differ from the model's own in "
                f"{coarsest}; where two values are near each other rounding does that"
            )


def _refusal(program: Program, original: Original, worst: Difference, allowed: float) -> str:
    hint = (
        "a value that the trace took for a constant, or a mask that it decided on"
        if worst.run.startswith("a variation")
        else "a mask or a branch that was decided while it was traced"
    )
    return (
        f"{program.name} is not {original.what}: {worst.output} differs by "
        f"{worst.difference:.3g} of {worst.magnitude:.3g} on {worst.run}, and {allowed:g} of that "
        f"is allowed; look for {hint}. --model-tolerance allows more, --no-model-check compares "
        f"nothing"
    )
