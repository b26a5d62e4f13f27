"""State: what a control step leaves to the next one of its episode.

An *episode* begins when the robot is reset. In its first step a state has its initial value. That
is the output, under the name of the state's input, of a phase that runs on reset; else the value
given; else zeros. In every later step the state has what the step before made. An output of a phase
that runs on reset, read by a phase of every step, is state too: it stays until the next reset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vlacut.errors import ModelError, suggestion
from vlacut.tensor import TensorSpec

STEP, RESET = WHENS = ("step", "reset")


@dataclass(frozen=True, eq=False)
class State:
    """A tensor from one control step to the next.

    Attributes:
        output: the output of that name, of the latest phase that has one; empty for state that a
            phase makes on reset, which stays.
        input: the input of the phases that read it in the next step.
        initial: its value in the first step of an episode, as numpy carries it at run time; None
            for zeros.
        name: for people; the input's, if it is empty.
    """

    output: str
    input: str
    initial: np.ndarray | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.input)

    def first(self, spec: TensorSpec) -> np.ndarray:
        """Its initial value. Raises ModelError if that is no such tensor."""
        if self.initial is None:
            return np.zeros(spec.numpy_shape, spec.numpy_dtype)
        given = self.initial
        if given.dtype != spec.numpy_dtype or given.shape != spec.numpy_shape:
            raise ModelError(
                f"state {self.name}: its initial value is {given.dtype}{list(given.shape)}, must "
                f"be {spec.numpy_dtype}{list(spec.numpy_shape)}"
            )
        return np.require(given, requirements="C")


def states_of(
    pairs: Mapping[str, str], initial: Mapping[str, np.ndarray] | None = None
) -> tuple[State, ...]:
    """The states of a mapping from outputs to inputs. Initial values are given by input, or zeros.

    Raises ModelError for a value that belongs to none of them.
    """
    values = dict(initial or {})
    states = tuple(State(output, fed, values.pop(fed, None)) for output, fed in pairs.items())
    if values:
        raise ModelError(
            f"an initial value of {', '.join(values)}: no state is fed to that; "
            f"{suggestion(next(iter(values)), pairs.values())}"
        )
    return states
