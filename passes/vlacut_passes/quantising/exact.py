"""Which weights stay exact: those that move the action most for the bytes that they would save, or
those of a list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from fnmatch import fnmatchcase

import numpy as np
import onnx_ir as ir

from vlacut.errors import PassError, suggestion
from vlacut.ir.program import Program
from vlacut.tensor.numerics import relative_difference
from vlacut_passes.quantising.observing import Observation, Observed
from vlacut_passes.quantising.products import Products, lookups, products

NOT_MEASURED = (
    "which weights stay exact is measured on the action, and the model has no content to run with; "
    "give --weights"
)

Weights = Mapping[str, np.ndarray]  # by name, of the type and shape of those that they replace
# A program in which the weights of these names are rounded, while that is looked at.
Rounding = Callable[[Sequence[str]], AbstractContextManager[Program]]


def without(program: Program, found: Products, exact: str) -> Products:
    """The products but those whose weight, or which themselves, a list has.

    Args:
        program: all of it, for it is an error if a pattern matches none of its products.
        found: products of it.
        exact: names, or patterns of them as a shell has them, with `;` between.

    Raises PassError for a pattern that matches nothing, naming those that are near.
    """
    patterns = list(filter(None, (one.strip() for one in exact.split(";"))))
    if not patterns:
        return found
    graphs = [phase.model.graph for phase in program.phases]
    every = [one for graph in graphs for one in (*products(graph, 0), *lookups(graph, 0))]
    known = dict.fromkeys(name for one in every for name in (one.name, str(one.node.name)))
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            near = suggestion(pattern, known)
            raise PassError(f"quantise: exact: no product or its weight is {pattern!r}; {near}")

    def listed(*names: str) -> bool:
        return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)

    kept = {one.name for one in every if listed(one.name, str(one.node.name))}
    return {phase: [one for one in some if one.name not in kept] for phase, some in found.items()}


def kept_exact(
    program: Program,
    sizes: Mapping[str, int],
    rounding: Rounding,
    seen: Sequence[Observation],
    most: float,
) -> tuple[frozenset[str], float]:
    """The weights to leave as they are so that the action moves by at most a share, and by how
    much it then moves.

    Every weight is tried alone, on the first observation, and ranked by how far it moves the action
    for each of its bytes. The shortest beginning of that ranking that holds the bound on all
    observations is found by halving; so a step of the program is run once for each weight, and
    a few times for each observation.

    Args:
        program: with content in its weights; it is as before when this returns.
        sizes: bytes of the weights that would be rounded, by name.
        rounding: rounds some of them.
        seen: observations.
        most: share of the action's largest magnitude.
    """
    actions = [Observed(program).step(each) for each in seen]

    def error(names: Sequence[str], count: int) -> float:
        with rounding(names) as rounded:
            observed = Observed(rounded)
            pairs = zip(seen[:count], actions[:count], strict=True)
            return max(relative_difference(observed.step(one), action) for one, action in pairs)

    every = list(sizes)
    found = error(every, len(seen))
    if found <= most:
        return frozenset(), found
    alone = {name: error([name], 1) / sizes[name] for name in every}
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
def replaced(program: Program, weights: Weights) -> Iterator[Program]:
    """Meanwhile some weights of a program have other contents, in every phase that has them."""
    held: list[tuple[ir.Value, ir.TensorProtocol | None]] = []
    try:
        for phase in program.phases:
            for name, array in weights.items():
                value = phase.model.graph.initializers.get(name)
                if value is not None:
                    held.append((value, value.const_value))
                    value.const_value = ir.tensor(array, name=name)
        yield program
    finally:
        for value, tensor in held:
            value.const_value = tensor
