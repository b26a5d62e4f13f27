"""State in a plan: what a control step leaves to the next, which side has it, and what moving it
costs. Plain data.

A schedule says it with its own instructions: a Move whose target is the key of a state keeps a
tensor for the next step, on the sides that it names; a Transfer that is `later` sends state that
the other side reads in the next step. In the first step of an episode a variant does `first`
before its schedule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

from vlacut.errors import InputError
from vlacut.hardware import Side
from vlacut.plans.instructions import Instruction, Move, Run, steps
from vlacut.tensor import TensorSpec


class StateRule(str, Enum):
    """What a step builds on, and how the sides came to agree on it.

    NONE: nothing, the program has no state. KEPT: both sides had what the step before left. MOVED:
    a side got it from the other, for this variant reads it elsewhere than the one before. RESENT:
    the cloud had lost it, or never had it, and the edge had a copy. RECOMPUTED: steps were run
    again, with the observations kept, from the last state that both sides had. RESET: it builds on
    the initial state, because that was asked for, or nothing else was left.
    """

    NONE = "none"
    KEPT = "kept"
    MOVED = "moved"
    RESENT = "resent"
    RECOMPUTED = "recomputed"
    RESET = "reset"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class PlanState:
    """A state of a plan.

    Attributes:
        name: for people.
        key: under which a step finds it.
        source: of the tensor that a step leaves; empty where it stays as it is until the next
            reset.
        reset: of the tensor that it is in the first step of an episode; empty where it is its
            initial value.
        given: whether the bundle holds an initial value; else that is zeros.
    """

    name: str
    key: str
    source: str
    reset: str = ""
    given: bool = False


@dataclass(frozen=True)
class StateUse:
    """What one variant does with state, by side.

    Attributes:
        reads: keys that a step reads.
        keeps: keys that a step keeps for the next.
        first_keeps: keys that the first step of an episode keeps until the next reset.
    """

    reads: Mapping[Side, frozenset[str]]
    keeps: Mapping[Side, frozenset[str]]
    first_keeps: Mapping[Side, frozenset[str]]

    def held_after(self, side: Side, stayed: frozenset[str], first: bool) -> frozenset[str]:
        """What a side holds when a step is over; `stayed` is what it held before of what stays."""
        return self.keeps[side] | (self.first_keeps[side] if first else stayed)


def initial_state(
    states: tuple[PlanState, ...],
    spec: Mapping[str, TensorSpec],
    given: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """State in the first step of an episode, by key: given, or zeros; without what is made on
    reset.

    Raises InputError for a value that is missing, or of another type or shape.
    """
    found = {}
    for state in states:
        if state.reset:
            continue
        if state.given and state.key not in given:
            raise InputError(f"state {state.name} has an initial value of its own; give it")
        zeros = np.zeros(spec[state.key].numpy_shape, spec[state.key].numpy_dtype)
        found[state.key] = spec[state.key].check(given[state.key]) if state.given else zeros
    return found


def state_use(
    schedule: tuple[Instruction, ...],
    first: tuple[Instruction, ...],
    keys: frozenset[str],
    staying: frozenset[str],
    inputs: Mapping[str, tuple[Side, tuple[str, ...]]],
) -> StateUse:
    """What a variant does with the states of these keys, of which some stay; `inputs` are of every
    part, by name, with its side.
    """
    reads: dict[Side, set[str]] = {side: set() for side in Side}
    for step in steps(schedule, between=False):
        item = step.instruction
        if isinstance(item, Run) and item.part in inputs:
            side, read = inputs[item.part]
            reads[side] |= keys.intersection(read)
        elif isinstance(item, Move) and item.source in keys:
            for side in item.sides:
                reads[side].add(item.source)
    return StateUse(
        {side: frozenset(found) for side, found in reads.items()},
        _kept(schedule, keys),
        _kept(first, staying),
    )


def _kept(schedule: tuple[Instruction, ...], keys: frozenset[str]) -> dict[Side, frozenset[str]]:
    moves = [item for item in schedule if isinstance(item, Move) and item.target in keys]
    return {side: frozenset(one.target for one in moves if side in one.sides) for side in Side}
