"""A policy of a checkpoint as its builder makes it, and the program of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlacut.frontends.torch import TorchPhase, program_from_torch
from vlacut.ir.annotation import NOISE, NOTES
from vlacut.ir.program import Program
from vlacut.tensor.noise import Noise


@dataclass(frozen=True)
class Built:
    """A policy of a checkpoint.

    Attributes:
        phases: in order; inputs of the first that read them are by the robot's names.
        observation: names of what the robot gives.
        noise: inputs that are noise.
        notes: lines on what was taken for granted.
    """

    phases: Sequence[TorchPhase]
    observation: Sequence[str]
    noise: Sequence[Noise] = ()
    notes: Sequence[str] = ()


def program_of(name: str, built: Built) -> Program:
    """The program of a policy, whose one output is `action`; raises as `program_from_torch`."""
    program = program_from_torch(name, built.phases, built.observation, ["action"])
    if built.noise:
        NOISE.put(program, tuple(built.noise))
    if built.notes:
        NOTES.put(program, (*(NOTES.find(program) or ()), *built.notes))
    return program
