"""Rolling: a loop that was unrolled when it was traced, as a phase with trips again.

The phase that holds it becomes up to three: what is before the loop, one trip of it, and what is
behind. What is the same in every trip stays as it is; constants that differ become tables, of
which a trip reads its row; what the trips get from outside, a tensor each, is stacked. Noise that
every trip draws for itself becomes one input, with a row for each trip. The operators of a trip are
those that were traced, on the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from vlacut.errors import ModelError
from vlacut.ir.annotation import COUNTED, EXAMPLE, FIXED, NOISE, NOTES, ROWS
from vlacut.ir.folding import fold_constants
from vlacut.ir.original import ORIGINAL, Numbers, Original, Runner
from vlacut.ir.phase_roll import Names, PhaseRoll
from vlacut.ir.program import Phase, Program
from vlacut.ir.repeats import Repeat, find_repeat
from vlacut.ir.rewriting import remove_unused
from vlacut.tensor import TensorSpec

_LEAST_SAVED = 8  # operators: what two equal lines of code come to is no loop
AUTO = "auto"


def unrolled_loops(program: Program) -> Iterator[str]:
    """A line for every phase that holds an unrolled loop, seen without folding constants."""
    for phase in program.phases:
        found = find_repeat(phase.model.graph) if phase.trips == 1 else None
        if found is not None and found.saved >= _LEAST_SAVED:
            yield (
                f"phase {phase.name} holds {found.trips} equal blocks of {found.length} operators, "
                f"a loop that was unrolled: {found.saved} operators more than with --roll auto, "
                f"which makes it a phase of {found.trips} trips"
            )


def parse_roll(text: str) -> int | None:
    """The trips of `--roll TEXT`; None for `auto`. Raises ModelError for what is neither."""
    if text == AUTO:
        return None
    if not text.isdecimal() or int(text) < 2:
        raise ModelError(f"--roll {text}: write auto, or how many trips the loop has, e.g. 10")
    return int(text)


def rolled(program: Program, trips: int | None = None) -> Program:
    """The program with its unrolled loops as phases with trips; of so many, if that is told.

    The largest loop of each phase that runs once is rolled.

    Raises ModelError if there is none.
    """
    phases: list[Phase] = []
    names = Names(program)
    stacks: dict[str, tuple[str, ...]] = {}
    notes: list[str] = []
    for phase in program.phases:
        largest = _found(phase, trips)
        if largest is None:
            phases.append(phase)
            continue
        phase, found = largest
        roll = PhaseRoll(phase, found, names)
        phases += roll.phases()
        stacks |= roll.stacks
        notes.append(
            f"{found.trips} equal blocks of {found.length} operators are {found.trips} trips of "
            f"phase {roll.name}: {found.saved} operators fewer"
        )
    if not notes:
        many = "equal blocks" if trips is None else f"{trips} equal blocks"
        raise ModelError(
            f"{program.name}: --roll: no phase holds {many} of operators on the same weights, one "
            f"after the other; they may differ in constants, and in what is made before the loop"
        )
    return _program(program, tuple(phases), stacks, notes)


def _found(phase: Phase, trips: int | None) -> tuple[Phase, Repeat] | None:
    """The largest repeat of a phase, in the phase as it is or with its constants folded.

    Folding takes away how a scheduler comes by its numbers, which differs between trips; it also
    takes operators out of a first trip that begins with a constant.
    """
    if phase.trips > 1:
        return None
    plain = replace(phase, model=phase.model.clone())
    remove_unused(plain.model)
    folded = replace(phase, model=plain.model.clone())
    fold_constants(folded.model)
    remove_unused(folded.model)
    made = [(one, find_repeat(one.model.graph, trips)) for one in (folded, plain)]
    found = [(one, repeat) for one, repeat in made if repeat and repeat.saved >= _LEAST_SAVED]
    return max(found, key=lambda one: one[1].trips, default=None)


def _program(
    program: Program,
    phases: tuple[Phase, ...],
    stacks: Mapping[str, tuple[str, ...]],
    notes: Sequence[str],
) -> Program:
    rows = {row: name for name, group in stacks.items() for row in group}
    inputs = tuple(
        TensorSpec(spec.name, spec.dtype, (len(stacks[spec.name]), *spec.shape))
        if spec.name in stacks
        else spec
        for spec in program.inputs
        if rows.get(spec.name, spec.name) == spec.name
    )
    made = Program(program.name, phases, inputs, program.outputs, state=program.state)
    noise = tuple(
        one for one in NOISE.find(program) or () if rows.get(one.input, one.input) == one.input
    )
    if noise:
        NOISE.put(made, noise)
    example = dict(EXAMPLE.find(program) or {})
    if example:
        kept = {spec.name: example[spec.name] for spec in inputs if spec.name in example}
        specs = {spec.name: spec for spec in inputs}
        drawn = {one.input: one.draw(specs[one.input], 0, 0, at) for at, one in enumerate(noise)}
        EXAMPLE.put(made, {**kept, **drawn})
    for key in (FIXED, COUNTED):
        found = key.find(program)
        if found is not None:
            key.put(made, found)  # type: ignore[arg-type]
    NOTES.put(made, (*(NOTES.find(program) or ()), *notes))
    if stacks:
        ROWS.put(made, stacks)
    original = ORIGINAL.find(program)
    if original is not None:
        ORIGINAL.put(made, lambda: _original(original(), program, stacks))
    return made


def unrolled_observation(
    program: Program, observation: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The observation of the program that this one was before it was rolled."""
    return _unstacked(observation, ROWS.find(program) or {})


def _unstacked(
    given: Mapping[str, np.ndarray], stacks: Mapping[str, tuple[str, ...]]
) -> dict[str, np.ndarray]:
    rows = {
        row: array
        for name, group in stacks.items()
        for row, array in zip(group, given[name], strict=True)
    }
    return {**given, **rows}


def _original(
    original: Original, program: Program, stacks: Mapping[str, tuple[str, ...]]
) -> Original:
    """What the unrolled program came from, run as a whole: its phases are others now."""
    if not original.phases:
        return original
    return replace(original, phases={}, step=_step(original, program, stacks))


def _step(original: Original, program: Program, stacks: Mapping[str, tuple[str, ...]]) -> Runner:
    phases = [
        (phase.name, phase.trips, dict(phase.carried), phase.input_names)
        for phase in program.phases
    ]

    def run(given: Mapping[str, np.ndarray]) -> Numbers:
        held: Numbers = _unstacked(given, stacks)
        for name, trips, carried, inputs in phases:
            fed = {one: held[one] for one in inputs}
            for _ in range(trips):
                made = original.phases[name](fed)
                fed |= {read: made[output] for output, read in carried.items()}
            held |= made
        return held

    return run
