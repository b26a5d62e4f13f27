"""The uncut program, run in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vlacut.backend import Engine
from vlacut.ir.program import Program
from vlacut.ir.uses import key_of
from vlacut.runtime.whole import UncutEpisode
from vlacut.split.emission import whole_phases
from vlacut.split.observations import initial_of
from vlacut.split.parts import whole, whole_states
from vlacut.split.workshop import Workshop, workshop


def uncut_step(
    program: Program, observation: Mapping[str, np.ndarray], backend: str = "onnxruntime"
) -> dict[str, np.ndarray]:
    """The action, and the state that is left, of the first step of an episode, by name.

    Raises BackendError if the back end cannot run the program.
    """
    return uncut_episode(program, [observation], backend)[0]


def uncut_episode(
    program: Program,
    observations: Sequence[Mapping[str, np.ndarray]],
    backend: str = "onnxruntime",
) -> list[dict[str, np.ndarray]]:
    """As `uncut_step`, of every step of an episode."""
    names = [*(spec.name for spec in program.outputs), *(one.output for one in program.state)]
    keys = {one: key_of(program, program.output_source(one)) for one in names}
    with workshop(backend) as made_here:
        engines = uncut_engines(made_here, program)
        states, initial = whole_states(program), initial_of(program)
        episode = UncutEpisode(whole_phases(program), engines, states, initial)
        made = [episode.step(observed) for observed in observations]
    return [{one: step[key] for one, key in keys.items()} for step in made]


def uncut_engines(made: Workshop, program: Program) -> dict[str, Engine]:
    """Engines of the uncut phases, by name."""
    described = whole_phases(program)
    return {
        phase.name: made.engine(phase.name, whole(phase, [one.key for one in about.inputs]))
        for phase, about in zip(program.phases, described, strict=True)
    }
