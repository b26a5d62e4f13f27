"""Real-time chunking of LeRobot's: what a bundle is told of the commands that are played meanwhile.

A bundle that was compiled with `--real-time-chunking` takes the chunk in force and its weights, see
`vlacut.control.rtc`; schedule, horizon and the most guidance are LeRobot's `--inference.rtc.*`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from vlacut.control.rtc import GUIDANCE, PREV_CHUNK, WEIGHTS, guidance_of, prefix_weights
from vlacut.tensor import TensorSpec

log = logging.getLogger("vlacut.lerobot")


class Continuing:
    """Makes the inputs by which a bundle continues a chunk.

    Args:
        inputs: of the bundle, by name.

    Attributes:
        can: whether the bundle takes them.
    """

    def __init__(self, inputs: Mapping[str, TensorSpec]) -> None:
        self.can = PREV_CHUNK in inputs and WEIGHTS in inputs
        self._said = False
        self._specs = {
            name: inputs[name] for name in (PREV_CHUNK, WEIGHTS, GUIDANCE) if name in inputs
        }

    def nothing(self) -> dict[str, np.ndarray]:
        """For a chunk that continues none; empty for a bundle that takes none."""
        return {
            name: np.zeros(one.numpy_shape, one.numpy_dtype) for name, one in self._specs.items()
        }

    def inputs(self, left: Tensor | None, delay: int, settings: Any) -> dict[str, np.ndarray]:
        """For a chunk that continues what is left of the last one.

        Args:
            left: commands, [n, width] or [1, n, width], from the one of now on; those that LeRobot
                filled up with zeros behind them are none. None for the first chunk.
            delay: how many of them are played meanwhile, as LeRobot counts it.
            settings: LeRobot's `RTCConfig`.
        """
        made = self.nothing()
        if left is None or not self.can:
            return made
        commands = left.reshape(-1, left.shape[-1]).cpu().numpy()
        commands = commands[: 1 + max(np.flatnonzero(commands.any(axis=1)), default=-1)]
        (length,) = self._specs[WEIGHTS].numpy_shape
        known = min(len(commands), length, settings.execution_horizon)
        if not known:
            return made
        if not self._said:
            log.info("a chunk continues %d commands; %d are played meanwhile", known, delay)
        self._said = True
        shape = self._specs[PREV_CHUNK].numpy_shape
        chunk = made[PREV_CHUNK].reshape(length, -1)
        chunk[:known] = commands[:known]
        weights = self._weights(length, delay, known, settings)
        made[PREV_CHUNK], made[WEIGHTS] = chunk.reshape(shape), weights.astype(np.float32)
        if GUIDANCE in made:
            steps = len(made[GUIDANCE])
            guided = guidance_of(steps, settings.max_guidance_weight)
            made[GUIDANCE] = guided.astype(made[GUIDANCE].dtype)
        return made

    def _weights(self, length: int, delay: int, known: int, settings: Any) -> np.ndarray:
        """Along the chunk, by LeRobot's own schedule; a prefix that is kept has no falling ones."""
        if GUIDANCE not in self._specs:
            return prefix_weights(length, delay, known, hard=True)
        from lerobot.policies.rtc.modeling_rtc import RTCProcessor

        made: np.ndarray = RTCProcessor(settings).get_prefix_weights(delay, known, length).numpy()
        return made
