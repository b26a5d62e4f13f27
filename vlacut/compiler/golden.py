"""The golden step: one control step of the uncut model, recorded when a bundle is made.

If a back end does not run here, another one records the step: its `reference`, see
`vlacut.compiler.uncut`. Then the inputs and outputs of every part of that side are recorded too,
for the machine that builds its engines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from vlacut.backend import Engine
from vlacut.bundle.contents import WholePhase
from vlacut.bundle.golden import GoldenStep, sequence_bytes
from vlacut.compiler.part_surgery import before_surgery
from vlacut.compiler.uncut import RunsHere
from vlacut.errors import Progress
from vlacut.hardware import Side
from vlacut.ir.program import Program
from vlacut.ir.uses import key_of
from vlacut.plans.instructions import Move, Run, steps
from vlacut.plans.plan import Part, Plan
from vlacut.runtime.whole import SEQUENCE, UncutEpisode
from vlacut.split.observations import example_observation, initial_of
from vlacut.split.parts import whole_states
from vlacut.tensor.npz import npz_bytes
from vlacut.tensor.numerics import varied

_BEHIND_WARMING = 2  # steps with an action, at least


def write_golden(
    program: Program,
    plan: Plan,
    phases: Sequence[WholePhase],
    folder: Path,
    engines: Mapping[str, Engine],
    here: RunsHere,
    progress: Progress,
) -> None:
    """Run the uncut phases in a bundle's folder once, and record observation and action there; of
    a program that remembers, an episode of `SEQUENCE` steps or more, with the state that each left.

    Args:
        program: that is compiled.
        plan: of it.
        phases: the uncut ones.
        folder: where the bundle is being made.
        engines: of the phases, by name.
        here: what runs files of the bundle.
        progress: as of `compile_program`.

    Raises BackendError if an engine fails.
    """
    observation = example_observation(program)
    (folder / "golden").mkdir()
    states = whole_states(program)
    initial = initial_of(program)
    if any(map(here.refers, Side)):
        _write_parts(plan, here, {**observation, **initial}, folder / "golden" / "parts")
    episode = UncutEpisode(phases, engines, states, initial)
    steps: list[GoldenStep] = []
    many = max(SEQUENCE, plan.warming + _BEHIND_WARMING) if states else 1
    for number in range(many):
        observed = varied(program.inputs, observation, number)
        tensors = episode.step(observed, partial(_tell, progress, number, many))
        action = {
            spec.name: tensors[key_of(program, program.output_source(spec.name))]
            for spec in program.outputs
        }
        steps.append(GoldenStep(observed, action, episode.state))
    for which, arrays in (("observation", observation), ("action", steps[0].action)):
        (folder / "golden" / f"{which}.npz").write_bytes(npz_bytes(arrays))
    if states:
        (folder / "golden" / "sequence.npz").write_bytes(sequence_bytes(steps))


def _tell(progress: Progress, step: int, steps: int, _: str, done: int, total: int) -> None:
    progress("golden", step * total + done, steps * total)


def _write_parts(
    plan: Plan, here: RunsHere, held_first: Mapping[str, np.ndarray], folder: Path
) -> None:
    """Record the first run of each part of a side that is not run here by its own back end; every
    variant is walked with both sides in one place. Of a part that surgery rewrote it is the run
    before that.
    """
    folder.mkdir()
    engines = {part.name: here.load(part.side, _file(part, here)) for part in plan.parts}
    written: set[str] = set()
    for variant in plan.variants:
        held = dict(held_first)
        for _, _, _, instruction in steps((*variant.first, *variant.schedule)):
            if isinstance(instruction, Run):
                part = plan.part[instruction.part]
                held |= engines[part.name].run({key: held[key] for key in part.inputs})
                if part.name not in written and here.refers(part.side):
                    arrays = {key: held[key] for key in (*part.inputs, *part.outputs)}
                    (folder / f"{part.name}.npz").write_bytes(npz_bytes(arrays))
                    written.add(part.name)
            elif isinstance(instruction, Move):
                held[instruction.target] = held[instruction.source]


def _file(part: Part, here: RunsHere) -> str:
    """The part; as it was, if its engine is to be compared with what surgery was given."""
    before = before_surgery(part.name)
    return before if here.has(before) else f"parts/{part.name}.onnx"
