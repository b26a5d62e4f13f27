"""What can stand in a policy's place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from vlacut.control.ways.chunk import ChunkReader
from vlacut.tensor import TensorSpec

from ..policies.policy import CHUNK


class Acts(Protocol):
    """A policy's engines, or who plans in their place.

    Attributes:
        inputs: all that it takes, by name.
        seen: those of them that the world shows.
        doubts: whether it says how unsure it is.
    """

    inputs: Mapping[str, TensorSpec]
    seen: Sequence[str]
    doubts: bool

    def act(
        self, observation: Mapping[str, np.ndarray], variant: int = 0
    ) -> Mapping[str, np.ndarray]:
        """Its outputs by name, made by a variant."""

    def reader(self, horizon: int = CHUNK) -> ChunkReader:
        """Of its chunks, of which so many commands are played."""
