"""A program with requests in flight, held to the program that it was, action by action."""

from __future__ import annotations

from vlacut.compiler.model_check.verdict import TOLERANCES
from vlacut.errors import ModelDiffers
from vlacut.ir.annotation import WARMING
from vlacut.ir.original import PLAIN, precision_of
from vlacut.ir.program import Program
from vlacut.split.observations import example_observation, not_runnable_twice
from vlacut.split.uncut import uncut_episode, uncut_step
from vlacut.tensor.numerics import relative_difference, varied

_ACTIONS = 3  # that are compared


def check_overlap(program: Program) -> tuple[str, ...]:
    """What a user should know of it, a line each; none for a program without requests in flight.

    The plain program runs on the example and two variations of it, this one on an episode that
    begins with them. Tokens may fall otherwise where two words are as good as equal, so that is
    said of an action that is off. Raises ModelDiffers if all of them are.
    """
    behind, plain = WARMING.find(program), PLAIN.find(program)
    if not behind or plain is None:
        return ()
    why_not = not_runnable_twice(program)
    if why_not:
        return (f"in flight: actions are not compared with those of one request: {why_not}",)
    example = example_observation(program)
    observations = [varied(program.inputs, example, number) for number in range(behind + _ACTIONS)]
    allowed, names = TOLERANCES[precision_of(program)], [spec.name for spec in program.outputs]
    made = uncut_episode(program, observations)[behind:]
    off = []
    for observed, one in zip(observations, made, strict=False):
        alone = uncut_step(plain, observed)
        found = relative_difference(
            {name: one[name] for name in names}, {name: alone[name] for name in names}
        )
        if not found <= allowed:
            off.append(found)
    if len(off) == len(made):
        raise ModelDiffers(
            f"{program.name}: with requests in flight every action differs from that of one "
            f"request alone, by {max(off):.2g} of its magnitude where {allowed:g} is allowed; "
            f"leave --in-flight out, and report it"
        )
    if off:
        return (
            f"in flight: {len(off)} of {len(made)} actions differ from those of one request alone, "
            f"by up to {max(off):.2g} of their magnitude: where two words are as good as equal "
            f"rounding decides",
        )
    return ()
