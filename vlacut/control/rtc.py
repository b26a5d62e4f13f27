"""Real-time chunking: what a policy is told of the commands that are executed while it runs.

A policy with a denoise loop can continue the chunk in force instead of jumping (Black et al., arXiv
2506.07339). The pass `real-time-chunking` gives the program these inputs:

    prev_chunk       as the output: the commands in force, from the one of now on
    prefix_weights   [T]: 1 for those that will have been executed when the new chunk is there, then
                     falling to 0
    guidance         [steps, 2], `guided` alone: gain and steps left, of every step

The delay is not guessed: it is the inference's time by price and forecast, counted in commands. A
chunk is entered at the number of commands executed since its observation.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vlacut.control.executors import RTC, Async, InForce
from vlacut.control.ways.chunk import ChunkReader
from vlacut.errors import InputError
from vlacut.tensor import TensorSpec

PREV_CHUNK, WEIGHTS, GUIDANCE = "prev_chunk", "prefix_weights", "guidance"
GUIDED, PREFIX = MODES = ("guided", "prefix")
MOST_GUIDANCE = 5.0  # beta of arXiv 2506.07339


def guidance_of(steps: int, most: float = MOST_GUIDANCE) -> np.ndarray:
    """Gain and steps left of every Euler step of a flow from noise to actions, [steps, 2].

    At the share tau = k / steps of the way the paper's weight is

        g = min(most, (1 - tau) / tau ((1 - tau)^2 + tau^2) / (1 - tau)^2)

    and the velocity, of which a step takes 1 / steps, is changed by g w (prev - end).
    """
    tau = np.arange(steps) / steps
    with np.errstate(divide="ignore"):
        weight = (1 - tau) / tau * ((1 - tau) ** 2 + tau**2) / (1 - tau) ** 2
    return np.column_stack((np.minimum(most, weight) / steps, steps - np.arange(steps)))


def prefix_weights(length: int, delay: int, known: int, hard: bool) -> np.ndarray:
    """Weights [length] along a chunk.

    Args:
        length: commands in a chunk.
        delay: how many commands are executed meanwhile; their weight is 1.
        known: how many commands are in force; beyond them, weights are 0.
        hard: whether the weights between the two are 0. Otherwise they fall as in the paper,
            c (e^c - 1) / (e - 1) with c from 1 to 0.
    """
    place = np.arange(length)
    delay = min(delay, known)
    share = np.clip((known - place) / (known - delay + 1), 0.0, 1.0)
    falling = share * np.expm1(share) / np.expm1(1.0)
    weights = np.where(place < delay, 1.0, 0.0 if hard else falling)
    made: np.ndarray = np.where(place < known, weights, 0.0)
    return made


class RealTime(Async):
    """The executor `rtc`.

    Args:
        inputs: specs of the observation, by name.

    Raises InputError if the policy was not compiled with the pass `real-time-chunking`.
    """

    name, counts = RTC, True

    def __init__(self, inputs: Mapping[str, TensorSpec]) -> None:
        if PREV_CHUNK not in inputs or WEIGHTS not in inputs:
            raise InputError(
                "the policy takes no chunk in force: compile it with --real-time-chunking"
            )
        self._weights = inputs[WEIGHTS]
        self._guidance = inputs.get(GUIDANCE)
        self.adds = tuple(name for name in (PREV_CHUNK, WEIGHTS, GUIDANCE) if name in inputs)

    def observed(
        self, observation: Mapping[str, np.ndarray], reader: ChunkReader, in_force: InForce
    ) -> Mapping[str, np.ndarray]:
        """The observation, and the chunk in force in the form that the policy would give it."""
        length = reader.length
        commands = in_force.commands[:length]
        known = min(len(commands), reader.spec.horizon)
        padded = np.zeros((length, reader.width))
        padded[: len(commands)] = commands
        if 0 < len(commands) < length:
            padded[len(commands) :] = commands[-1]
        hard = self._guidance is None
        weights = prefix_weights(length, in_force.delay, known, hard)
        made = {
            **observation,
            PREV_CHUNK: reader.write(padded, observation),
            WEIGHTS: weights.astype(self._weights.numpy_dtype),
        }
        if self._guidance is not None:
            steps = self._guidance.shape[0]
            made[GUIDANCE] = guidance_of(steps).astype(self._guidance.numpy_dtype)
        return made
