"""What a program can be run on here: observations, state, and why it cannot."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from vlacut.ir.annotation import EXAMPLE
from vlacut.ir.dataflow import weights_of
from vlacut.ir.program import Program

OBSERVATIONS = 4  # the example, and variations of it
_MOST_SEARCHED = 32  # observations of a calibration that codecs are chosen on
_SHARE_SEARCHED = 4  # a quarter of them
_LARGE = 4 << 30  # bytes of weights, of which no second program is held beside the first

Observed = Mapping[str, np.ndarray]


def not_runnable(program: Program) -> str:
    """Why a program cannot be run: a weight has no content. Empty if all have."""
    for phase in program.phases:
        for name, value in phase.model.graph.initializers.items():
            if value.const_value is None:
                return f"weight {name} has no content, the model was traced on shapes alone"
    return ""


def not_runnable_twice(program: Program) -> str:
    """Why neither a program nor one that was made of it can be run, to compare the two."""
    large = sum(weights_of(program).values()) > _LARGE
    return not_runnable(program) or ("it is too large to be run twice" if large else "")


def not_runnable_beside(program: Program) -> str:
    """Why a program in another precision cannot be run beside it, on this machine."""
    nbytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    large = 2 * sum(weights_of(program).values()) > nbytes
    why_not = (
        f"with its weights twice it does not fit into the {nbytes / 1e9:.3g} GB of memory here"
    )
    return not_runnable(program) or (why_not if large else "")


def example_observation(program: Program) -> dict[str, np.ndarray]:
    """The example the front end recorded; else, from a fixed seed, normal floats and zeros."""
    recorded = EXAMPLE.find(program) or {}
    numbers = np.random.default_rng(0)
    observation = {}
    for spec in program.inputs:
        values = numbers.standard_normal(spec.numpy_shape)
        if spec.dtype not in ("float16", "float32", "float64"):
            values = np.zeros(spec.numpy_shape)
        observation[spec.name] = spec.check(
            recorded.get(spec.name, values.astype(spec.numpy_dtype))
        )
    return observation


def initial_of(program: Program) -> dict[str, np.ndarray]:
    """State in the first step of an episode, by key; without what is made on reset."""
    return {
        state.input: state.first(program.state_spec(state))
        for state in program.state
        if program.reset_source(state.input) is None
    }


def held_out(calibration: Sequence[Observed]) -> Sequence[Observed]:
    """Those observations of a calibration that have no say in what codecs are chosen."""
    share = max(OBSERVATIONS, min(_MOST_SEARCHED, len(calibration) // _SHARE_SEARCHED))
    return calibration[share:]
