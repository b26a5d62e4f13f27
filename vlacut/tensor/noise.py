"""Noise: numbers that a model draws while it runs, as inputs that are drawn before it runs.

The robot draws them, by numpy: `Generator(PCG64(SeedSequence((seed, step, place))))`, where *place*
is the input's among those of noise. So a step has the same noise whoever makes it, and however
often. The bits of PCG64 are the same everywhere; what Generator makes of them is the same for one
version of numpy (NEP 19). It is another generator than torch's: a seed of torch's means nothing
here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vlacut.errors import InputError
from vlacut.tensor.spec import TensorSpec

NORMAL, UNIFORM, BERNOULLI, INTEGERS = KINDS = ("normal", "uniform", "bernoulli", "integers")


@dataclass(frozen=True)
class Noise:
    """The distribution of an input that is noise; its elements are independent.

    Attributes:
        input: its name.
        distribution: one of `KINDS`.
        first: the mean of `normal`, the least of `uniform` and `integers`, the probability of a 1
            of `bernoulli`.
        second: the deviation of `normal`, the bound above of `uniform` and `integers`, which is
            never reached; 0 of `bernoulli`.
    """

    input: str
    distribution: str
    first: float
    second: float

    def problem(self) -> str:
        """Why it is no distribution; empty if it is one."""
        first, second = self.first, self.second
        if self.distribution not in KINDS or not (math.isfinite(first) and math.isfinite(second)):
            return f"{self} is none of {', '.join(KINDS)}"
        legal = {
            NORMAL: second >= 0,
            UNIFORM: first <= second,
            BERNOULLI: 0 <= first <= 1,
            INTEGERS: first < second and abs(first) < 2**53 and abs(second) < 2**53,
        }
        return "" if legal[self.distribution] else f"{self} has no such numbers"

    def draw(self, spec: TensorSpec, seed: int, step: int, place: int) -> np.ndarray:
        """The tensor of a control step, as numpy carries it at run time."""
        numbers = np.random.default_rng(np.random.SeedSequence((seed, step, place)))
        shape, first, second = spec.numpy_shape, self.first, self.second
        made: np.ndarray
        if self.distribution == NORMAL:
            made = numbers.standard_normal(shape) * second + first
        elif self.distribution == UNIFORM:
            made = numbers.random(shape) * (second - first) + first
        elif self.distribution == BERNOULLI:
            made = np.asarray(numbers.random(shape) < first)
        else:
            made = np.asarray(numbers.integers(int(first), int(second), shape))
        return _carried(made, spec)

    def __str__(self) -> str:
        if self.distribution == BERNOULLI:
            return f"{self.distribution}({self.first:g})"
        return f"{self.distribution}({self.first:g}, {self.second:g})"


class NoiseSource:
    """Draws what an observation lacks of noise.

    Args:
        noise: the inputs that are noise.
        specs: of all inputs, by name.
        seed: of all steps.

    Raises InputError for a seed below 0.
    """

    def __init__(
        self, noise: Sequence[Noise], specs: Mapping[str, TensorSpec], seed: int = 0
    ) -> None:
        if seed < 0:
            raise InputError(f"the seed is {seed}; it must be 0 or more")
        self._noise, self._seed = [(one, specs[one.input]) for one in noise], seed

    def complete(
        self, observation: Mapping[str, np.ndarray], step: int
    ) -> Mapping[str, np.ndarray]:
        """The observation with the noise of a step, counted from 0; what it has itself stays."""
        drawn = {
            one.input: one.draw(spec, self._seed, step, place)
            for place, (one, spec) in enumerate(self._noise)
            if one.input not in observation
        }
        return {**observation, **drawn} if drawn else observation


def _carried(made: np.ndarray, spec: TensorSpec) -> np.ndarray:
    if spec.dtype != "bfloat16":
        return made.astype(spec.numpy_dtype)
    # The upper half of a float32, rounded to the nearest, to even.
    bits = np.asarray(made, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
