"""Premises: what a trace takes for granted of an observation, checked before every step.

A graph has fixed shapes. Where a mask that follows from an observation chooses tokens, it chooses
as many as in the example; where a model asks whether a picture is padding, the graph has the answer
of the example. A premise says how that follows from the observation, in few operations of numpy,
and what it came to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vlacut.tensor.spec import TensorSpec

_MOST_ELEMENTS = 1 << 24  # of any value on the way: a bundle must not size an allocation

_BINARY: Mapping[str, Callable[..., np.ndarray]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
}
_REDUCED: Mapping[str, Callable[..., np.ndarray]] = {
    "sum": np.sum,
    "any": np.any,
    "all": np.all,
}


@dataclass(frozen=True)
class Operation:
    """One value on the way from an observation to what is checked.

    Attributes:
        op: `input`, `constant`, a comparison, a connective, `not`, `true` (is not zero), `whole`
            (a truth as a number), `reshape`, `expand`, `take` (elements of the flat value), or
            `sum`, `any`, `all` over axes.
        of: indices of the operations whose values it takes.
        name: of an input.
        numbers: a constant's elements, the elements that `take` takes, or the axes of a reduction,
            which keeps them with length 1.
        shape: of what it makes.
    """

    op: str
    of: tuple[int, ...] = ()
    name: str = ""
    numbers: tuple[float, ...] = ()
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Premise:
    """What a trace takes for granted.

    Attributes:
        operations: the last one's value is what is checked.
        expected: its elements, in C order; or, if `counted`, how many of them are true.
        counted: see there.
        place: `file:line` of the model's code that asked.

    Raises ValueError if the operations are none.
    """

    operations: tuple[Operation, ...]
    expected: tuple[float, ...]
    counted: bool
    place: str

    def __post_init__(self) -> None:
        for index, one in enumerate(self.operations):
            many = math.prod(one.shape) if all(size >= 0 for size in one.shape) else -1
            if not 0 <= many <= _MOST_ELEMENTS or any(not 0 <= of < index for of in one.of):
                raise ValueError("a premise has no such value")
        if not self.operations:
            raise ValueError("a premise needs an operation")

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of what of the observation it is about."""
        return tuple(sorted({one.name for one in self.operations if one.op == "input"}))

    def check(self, inputs: Sequence[TensorSpec]) -> None:
        """Raise ValueError if it cannot be asked of observations of these inputs."""
        known = {spec.name: spec for spec in inputs}
        given = {
            name: np.zeros(known[name].numpy_shape, known[name].numpy_dtype)
            for name in self.inputs
            if name in known
        }
        try:
            self.found(given)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(f"a premise that cannot be asked: {error}") from error

    def found(self, observation: Mapping[str, np.ndarray]) -> tuple[float, ...]:
        """What an observation comes to; the premise holds if that is `expected`."""
        values: list[np.ndarray] = []
        for one in self.operations:
            values.append(_value(one, [values[index] for index in one.of], observation))
        last = values[-1]
        if self.counted:
            return (float(np.count_nonzero(last)),)
        return tuple(map(float, last.reshape(-1)))

    def broken(self, observation: Mapping[str, np.ndarray]) -> str:
        """Why an observation is not one that the trace is right for; empty if it is."""
        found = self.found(observation)
        if found == self.expected:
            return ""
        names = ", ".join(self.inputs)
        if self.counted:
            return (
                f"{names}: chooses {found[0]:g} places, and the bundle was compiled for "
                f"{self.expected[0]:g} ({self.place}); compile it again with this observation as "
                f"the example, or give one that chooses as many"
            )
        return (
            f"{names}: {self.place} decides otherwise by its values than by the example's; compile "
            f"it again with this observation as the example"
        )


def _value(
    one: Operation, given: list[np.ndarray], observation: Mapping[str, np.ndarray]
) -> np.ndarray:
    op = one.op
    if op == "input":
        return observation[one.name]
    if op == "constant":
        return np.array(one.numbers).reshape(one.shape)
    if op in _BINARY:
        return _BINARY[op](*given)
    if op in _REDUCED:
        axes = tuple(map(int, one.numbers))
        return np.asarray(_REDUCED[op](given[0], axis=axes, keepdims=True))
    moved: Mapping[str, Callable[[], np.ndarray]] = {
        "not": lambda: np.logical_not(given[0]),
        "true": lambda: given[0] != 0,
        "whole": lambda: given[0].astype(np.int64),
        "reshape": lambda: given[0].reshape(one.shape),
        "expand": lambda: np.broadcast_to(given[0], one.shape),
        "take": lambda: given[0].reshape(-1)[np.array(one.numbers, int)].reshape(one.shape),
    }
    if op not in moved:
        raise ValueError(f"a premise knows no {op}")
    return moved[op]()
