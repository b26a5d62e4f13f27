"""The two machines of a cut: the edge is the robot, the cloud the GPU server."""

from __future__ import annotations

from enum import Enum


class Side(str, Enum):
    """The two machines of a cut."""

    EDGE = "edge"
    CLOUD = "cloud"

    @property
    def other(self) -> Side:
        """The machine across the link."""
        return Side.CLOUD if self is Side.EDGE else Side.EDGE

    def __str__(self) -> str:
        return self.value
