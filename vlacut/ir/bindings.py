"""Bindings of a program that are legal, and probably not what was meant: a line each.

A name with a wrong prefix binds to something else, or to nothing, and the program still runs. A
phase that nothing reads is left out. A loop that carries nothing computes the same in every trip.
A phase that reads `tokens`, where a loop made `next_tokens`, gets the tokens from before the loop.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher

from vlacut.ir.graphs import value_spec
from vlacut.ir.program import Phase, Program
from vlacut.tensor.spec import TensorSpec

_LIKE = 0.75  # of SequenceMatcher's ratio
_WORDS = "next|new|updated|output|out|current|cur|previous|prev|old|last|input|in"
_AFFIX = re.compile(rf"^({_WORDS})[_.]|[_.]({_WORDS})$")


def doubtful_bindings(program: Program) -> Iterator[str]:
    """A line for every binding that looks like a slip, with the name that was probably meant."""
    for index, phase in enumerate(program.phases):
        if not any(_is_read(program, index, name) for name in phase.output_names):
            yield _unread(program, index)
        if phase.trips > 1:
            yield from _loop(phase)
    yield from _before_a_loop(program)


def _is_read(program: Program, index: int, name: str) -> bool:
    """Whether a later phase, the action or the next step reads an output of a phase."""
    for later in range(index + 1, len(program.phases)):
        for read in program.phases[later].input_names:
            source = program.source(later, read)
            if (source.phase, source.name) == (index, name):
                return True
    sources = [program.output_source(spec.name) for spec in program.outputs]
    for state in program.states:
        made = (program.state_source(state), program.reset_source(state.input))
        sources += [one for one in made if one is not None]
    return any((source.phase, source.name) == (index, name) for source in sources)


def _unread(program: Program, index: int) -> str:
    phase = program.phases[index]
    said = (
        f"phase {phase.name}: nothing reads what it makes ({', '.join(phase.output_names)}), so it "
        f"does not run"
    )
    for later in program.phases[index + 1 :]:
        for read in later.input_names:
            meant = _nearest(read, phase.output_names)
            if meant:
                return f"{said}; did {later.name} mean {meant} where it reads {read}?"
    for spec in program.outputs:
        meant = _nearest(spec.name, phase.output_names)
        if meant:
            return f"{said}; did you mean {meant} where the action is {spec.name}?"
    return said


def _loop(phase: Phase) -> Iterator[str]:
    """What a loop may have been meant to carry."""
    outputs = {str(value.name): value_spec(value, "-") for value in phase.model.graph.outputs}
    inputs = {str(value.name): value_spec(value, "-") for value in phase.model.graph.inputs}
    pairs = dict(_pairs(outputs, inputs, phase))
    if not phase.carried:
        wanted = ", ".join(f"{made} = {read!r}" for made, read in pairs.items())
        hint = f"did you mean carried = {{ {wanted} }}?" if pairs else "name what it carries"
        yield (
            f"phase {phase.name} runs {phase.trips} times and carries nothing, so every trip "
            f"computes the same; {hint}"
        )
        return
    for made, read in pairs.items():
        yield (
            f"phase {phase.name}: {read} is the same in every trip, and {made} is not carried; did "
            f"you mean carried = {{ {made} = {read!r} }}?"
        )


def _pairs(
    outputs: dict[str, TensorSpec], inputs: dict[str, TensorSpec], phase: Phase
) -> Iterator[tuple[str, str]]:
    """Outputs that are not carried, with the input of the same type and nearly the same name."""
    free = [name for name in inputs if name not in phase.carried.values()]
    for made, spec in outputs.items():
        if made in phase.carried:
            continue
        read = _nearest(made, [name for name in free if inputs[name] == spec])
        if read:
            free.remove(read)
            yield made, read


def _before_a_loop(program: Program) -> Iterator[str]:
    """Who reads a value as it was before a loop that carries it on under another name."""
    for index, phase in enumerate(program.phases):
        fed = {read: made for made, read in phase.carried.items()} if phase.trips > 1 else {}
        for later in range(index + 1, len(program.phases)):
            reader = program.phases[later]
            for read in reader.input_names:
                source = program.source(later, read)
                if source.phase is not None and source.phase >= index:
                    continue
                meant = fed.get(read) or (
                    _nearest(read, fed.values()) if source.phase is not None else ""
                )
                if meant:
                    yield (
                        f"phase {reader.name} reads {read} as it was before {phase.name}; did you "
                        f"mean {meant}, which {phase.name} leaves?"
                    )


def _nearest(name: str, others: Iterable[str]) -> str:
    """The name that is nearly the same; empty if none is."""
    ratios = {other: _likeness(name, other) for other in others}
    best = max(ratios, key=lambda other: ratios[other], default="")
    return best if best and ratios[best] >= _LIKE else ""


def _likeness(one: str, other: str) -> float:
    bare, its = _bare(one), _bare(other)
    if bare == its:
        return 1.0
    numbered = re.findall(r"\d+", bare) != re.findall(r"\d+", its)  # key.0 is not key.1
    return 0.0 if numbered else SequenceMatcher(None, bare, its).ratio()


def _bare(name: str) -> str:
    """A name without what says before or after."""
    while (shorter := _AFFIX.sub("", name)) != name and shorter:
        name = shorter
    return name
