"""Recorded control steps of the uncut model: what they are, and the files that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlacut.errors import BundleError, ObservationError
from vlacut.tensor.npz import npz_bytes
from vlacut.tensor.spec import TensorSpec

Arrays = Mapping[str, np.ndarray]
Specs = Mapping[str, TensorSpec]


@dataclass(frozen=True)
class GoldenStep:
    """A recorded control step of the uncut model: the observation, the action, and the state that
    it left, by key.
    """

    observation: dict[str, np.ndarray]
    action: dict[str, np.ndarray]
    state: dict[str, np.ndarray]


def sequence_bytes(steps: Sequence[GoldenStep]) -> bytes:
    """The file of a recorded sequence, as `read_sequence` takes it."""
    return npz_bytes(
        {
            f"{number}/{kind}/{name}": array
            for number, step in enumerate(steps)
            for kind, arrays in vars(step).items()
            for name, array in arrays.items()
        }
    )


def read_step(path: Path, arrays: Arrays, specs: Specs) -> dict[str, np.ndarray]:
    """The arrays of one file, of the types and shapes of the plan.

    Raises BundleError, naming the file, where they are others.
    """
    if set(arrays) != set(specs):
        raise BundleError(f"{path}: holds {sorted(arrays)}, must be {sorted(specs)}")
    try:
        return {name: spec.check(arrays[name]) for name, spec in specs.items()}
    except ObservationError as error:
        raise BundleError(f"{path}: {error}") from error


def read_sequence(path: Path, arrays: Arrays, kinds: Mapping[str, Specs]) -> tuple[GoldenStep, ...]:
    """The steps of a recorded sequence, in order.

    Args:
        path: of the file that the arrays are of, for what is said of it.
        arrays: by `STEP/KIND/NAME`.
        kinds: what a step holds, by field of `GoldenStep`.

    Raises BundleError, naming the file, where they do not fit.
    """
    count = len({name.partition("/")[0] for name in arrays})
    try:
        return tuple(
            GoldenStep(
                **{
                    kind: {
                        name: one.check(arrays[f"{step}/{kind}/{name}"])
                        for name, one in specs.items()
                    }
                    for kind, specs in kinds.items()
                }
            )
            for step in range(count)
        )
    except (KeyError, ObservationError) as error:
        raise BundleError(f"{path}: {error}; compile the bundle again") from error
