"""Trials: engines for several robots are timed and compared before robots have them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vlacut.plans.batch import slot
from vlacut.runtime.engines import host_arrays
from vlacut.tensor import TensorSpec

InTurn = Callable[[Callable[[], None]], None]
Inputs = Sequence[Mapping[str, Any]]
Run = Callable[[int, Inputs], Mapping[str, Any]]
_TRIES = 3
# Of the largest magnitude: an executor sums in another order where there are more rows, which was
# 2e-7 in float32; float16 has eight of its last places.
_BOUND = 8 * 2.0**-10


def at_once(work: Callable[[], None]) -> None:
    """Do it: there is nobody to wait for."""
    work()


class Trials:
    """Trials of a part's engines, on drawn numbers. Every run has a turn of its own: robots have
    theirs between them.

    Args:
        run: the engine for so many robots.
        specs: of what the part reads, by key.
        outputs: keys of what it makes.
        most: robots at once.
        in_turn: does something while no robot's engine runs.
    """

    def __init__(
        self,
        run: Run,
        specs: Mapping[str, TensorSpec],
        outputs: Sequence[str],
        most: int,
        in_turn: InTurn,
    ) -> None:
        self._run, self._outputs, self._in_turn = run, outputs, in_turn
        self._drawn = [_drawn(specs, number) for number in range(most)]

    def of(self, size: int) -> tuple[float, Mapping[str, Any]]:
        """Seconds of the quickest of some runs, for the first allocates, and what the engine makes.
        Raises what it does.
        """
        tried = [self._once(size, self._drawn[:size]) for _ in range(_TRIES)]
        seconds = min(spent for spent, _ in tried)
        return max(seconds, 1e-9), tried[-1][1]  # a clock may be coarse

    def agrees(self, size: int, made: Mapping[str, Any]) -> bool:
        """Whether an engine made for each robot what the part's own makes."""
        return all(self._agrees(number, made) for number in range(size))

    def _agrees(self, number: int, made: Mapping[str, Any]) -> bool:
        _, alone = self._once(1, self._drawn[number : number + 1])
        for key in self._outputs:
            one, other = host_arrays([alone[key], made[slot(key, number)]])
            if one.dtype.kind == "f":  # of whole numbers one may fall otherwise in a tie
                bound = _BOUND * np.abs(np.nan_to_num(one)).max(initial=0.0)
                if not np.allclose(one, other, rtol=0, atol=bound, equal_nan=True):
                    return False
        return True

    def _once(self, size: int, inputs: Inputs) -> tuple[float, Mapping[str, Any]]:
        made: dict[str, Any] = {}
        spent = 0.0

        def work() -> None:
            nonlocal spent
            start = time.monotonic()
            made.update(self._run(size, inputs))
            spent = time.monotonic() - start

        self._in_turn(work)
        return spent, made


def _drawn(specs: Mapping[str, TensorSpec], seed: int) -> dict[str, np.ndarray]:
    """Inputs of a robot: floats are drawn; whole numbers are 0: they may be places in a table."""
    numbers = np.random.default_rng(seed)
    return {
        key: numbers.standard_normal(spec.numpy_shape).astype(spec.numpy_dtype)
        if spec.numpy_dtype.kind == "f"
        else np.zeros(spec.numpy_shape, spec.numpy_dtype)
        for key, spec in specs.items()
    }
