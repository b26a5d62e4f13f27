"""How far outputs of the uncut program are from the model's own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from vlacut.errors import ModelDiffers
from vlacut.ir.elements import numbers
from vlacut.tensor import TensorSpec
from vlacut.tensor.numerics import largest_difference, magnitude

EXAMPLE = "the example"  # how a run of it is called

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Difference:
    """How far one output is off in one run.

    Attributes:
        output: `phase/output`.
        run: `the example, trip 1 of 10`.
        exact: whether it holds whole numbers.
        difference, magnitude: the largest, and the largest of the model's own.
    """

    output: str
    run: str
    exact: bool
    difference: float
    magnitude: float

    @property
    def share(self) -> float:
        """Of the magnitude; infinite where one is no number."""
        if self.difference == 0:
            return 0.0
        share = self.difference / self.magnitude if self.magnitude else math.inf
        return share if share == share else math.inf


def differences(
    mine: Arrays, theirs: Arrays, specs: Mapping[str, TensorSpec], model: str, run: str
) -> Iterator[Difference]:
    """How far outputs are from the model's own, one by one.

    Args:
        mine: of the uncut program, by key, as they are carried at run time.
        theirs: of the model, by key: those that are compared.
        specs: of the uncut program's tensors, by key.
        model: what the model is, for what is said of it.
        run: which run it is.

    Raises ModelDiffers where a shape is another.
    """
    floats = {key: array for key, array in theirs.items() if not _is_exact(array)}
    largest = magnitude(floats, finite=True) if floats else 0.0
    for key, their in theirs.items():
        array = plain(mine[key], specs[key])
        if array.shape != their.shape:
            raise ModelDiffers(
                f"{key} has the shape {list(array.shape)}, and {list(their.shape)} in {model}"
            )
        one, other, exact = {key: array}, {key: their}, _is_exact(their)
        size = magnitude(other, finite=True) or (0.0 if exact else largest)
        yield Difference(key, run, exact, largest_difference(one, other), size)


def _is_exact(array: np.ndarray) -> bool:
    return not np.issubdtype(array.dtype, np.floating)


def plain(array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """The numbers of a tensor as it is carried at run time, in a type of numpy's own."""
    found = numbers(array, spec.dtype)
    return found if found.dtype.kind in "biuf" else found.astype(np.float32)
