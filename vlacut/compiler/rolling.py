"""A program with its unrolled loops rolled, held to what it was."""

from __future__ import annotations

from vlacut.compiler.trace_cache import Say
from vlacut.errors import ModelDiffers
from vlacut.ir.program import Program
from vlacut.ir.rolling import rolled, unrolled_observation
from vlacut.split.observations import example_observation, not_runnable_twice
from vlacut.split.uncut import uncut_step
from vlacut.tensor.numerics import relative_difference

# A share of the largest magnitude. Most loops come to the same bits; that of lerobot's
# DiffusionPolicy, a UNet of convolutions, did not, and why is not known.
_ROUNDING = 1e-5


def roll(program: Program, trips: int | None, say: Say) -> Program:
    """The program with its loops as phases with trips, compared with what it was on the example.

    `say` is told how far the two are apart where they are not the same to the last bit, and where
    nothing is compared. Raises ModelError as `vlacut.ir.rolling.rolled` does, and ModelDiffers if
    an action is off by more than rounding.
    """
    made = rolled(program, trips)
    why_not = not_runnable_twice(program)
    if why_not:
        say(f"--roll: the loop is not compared with its trips unrolled: {why_not}")
        return made
    observation = example_observation(made)
    one = uncut_step(program, unrolled_observation(made, observation))
    other = uncut_step(made, observation)
    for name, array in one.items():
        off = relative_difference({name: other[name]}, {name: array})
        if not off <= _ROUNDING:
            raise ModelDiffers(
                f"{program.name}: --roll: output {name} differs by {off:.2g} of its magnitude from "
                f"that with the loop unrolled; leave --roll out, and report it"
            )
        if off:
            say(f"--roll: output {name} is within {off:.2g} of that with the loop unrolled")
    return made
