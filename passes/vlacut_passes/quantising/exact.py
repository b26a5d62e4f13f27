"""Which weights stay exact: those that move the action most for the bytes that they would save."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import onnx_ir as ir

from vlacut.ir.program import Program
from vlacut.tensor.numerics import relative_difference
from vlacut_passes.quantising.observing import Observation, Observed

Weights = Mapping[str, np.ndarray]  # by name, of the type and shape of those that they replace


def kept_exact(
    program: Program, rounded: Weights, seen: Sequence[Observation], most: float
) -> tuple[frozenset[str], float]:
    """The weights to leave as they are so that the action moves by at most a share, and by how
    much it then moves.

    Every weight is tried alone, on the first observation, and ranked by how far it moves the action
    for each of its bytes. The shortest beginning of that ranking that holds the bound on all
    observations is found by halving; so a step of the program is run once for each weight, and
    a few times for each observation.

    Args:
        program: with content in its weights; it is as before when this returns.
        rounded: what would stand in the place of which weight.
        seen: observations.
        most: share of the action's largest magnitude.
    """
    actions = [Observed(program).step(each) for each in seen]

    def error(names: Sequence[str], count: int) -> float:
        with replaced(program, {name: rounded[name] for name in names}):
            observed = Observed(program)
            pairs = zip(seen[:count], actions[:count], strict=True)
            return max(relative_difference(observed.step(one), action) for one, action in pairs)

    every = list(rounded)
    found = error(every, len(seen))
    if found <= most:
        return frozenset(), found
    alone = {name: error([name], 1) / rounded[name].nbytes for name in every}
    ranked = sorted(every, key=lambda name: -alone[name])
    few, many, found = 0, len(ranked), 0.0
    while many - few > 1:
        middle = (few + many) // 2
        moved = error(ranked[middle:], len(seen))
        if moved <= most:
            many, found = middle, moved
        else:
            few = middle
    return frozenset(ranked[:many]), found


@contextmanager
def replaced(program: Program, weights: Weights) -> Iterator[None]:
    """Meanwhile some weights of a program have other contents, in every phase that has them."""
    held: list[tuple[ir.Value, ir.TensorProtocol | None]] = []
    try:
        for phase in program.phases:
            for name, array in weights.items():
                value = phase.model.graph.initializers.get(name)
                if value is not None:
                    held.append((value, value.const_value))
                    value.const_value = ir.tensor(array, name=name)
        yield
    finally:
        for value, tensor in held:
            value.const_value = tensor
