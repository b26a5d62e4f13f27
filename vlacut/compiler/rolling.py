"""A program with its unrolled loops rolled, held to what it was."""

from __future__ import annotations

import numpy as np

from vlacut.compiler.trace_cache import Say
from vlacut.errors import ModelDiffers
from vlacut.ir.dataflow import weights_of
from vlacut.ir.program import Program
from vlacut.ir.rolling import rolled, unrolled_observation
from vlacut.split.local_execution import example_observation, not_runnable, uncut_step

_LARGE = 4 << 30  # bytes of weights: both programs are run


def roll(program: Program, trips: int | None, say: Say) -> Program:
    """The program with its loops as phases with trips, compared with what it was on the example.

    `say` is told where nothing is compared. Raises ModelError as `vlacut.ir.rolling.rolled` does,
    and ModelDiffers if a bit of the action is another.
    """
    made = rolled(program, trips)
    large = sum(weights_of(program).values()) > _LARGE
    why_not = not_runnable(program) or ("it is too large to be run twice" if large else "")
    if why_not:
        say(f"--roll: the loop is not compared with its trips unrolled: {why_not}")
        return made
    observation = example_observation(made)
    one = uncut_step(program, unrolled_observation(made, observation))
    other = uncut_step(made, observation)
    for name, array in one.items():
        if not np.array_equal(array, other[name], equal_nan=array.dtype.kind == "f"):
            raise ModelDiffers(
                f"{program.name}: --roll: output {name} differs from that with the loop unrolled; "
                f"leave --roll out, and report it"
            )
    return made
