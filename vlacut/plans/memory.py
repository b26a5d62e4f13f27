"""Memory: what the cloud's machine has, and what a deployment takes of it. Plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Memory:
    """Bytes of the cloud's machine.

    Memory that an engine needs for itself while it runs is not counted: a plan does not know it.

    Attributes:
        device: bytes that the machine has; 0 if unknown.
        weights: bytes of the distinct weights of all its engines.
        robot: the most bytes of a robot's session: frames received for any variant, and the tensors
            that a step makes.
    """

    device: int = 0
    weights: int = 0
    robot: int = 0

    @property
    def robots(self) -> int | None:
        """How many robots fit beside the engines; None if any number, or unknown."""
        if not self.device or not self.robot:
            return None
        return max(0, self.device - self.weights) // self.robot


UNKNOWN = Memory()
