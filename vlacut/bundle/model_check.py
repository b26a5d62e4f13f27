"""The record of the model check: how far the uncut program was from the model it came from."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ModelCheck:
    """What a bundle says of the model that it came from.

    Attributes:
        against: what the uncut program was compared with: `your PyTorch module`; empty if nothing.
        why_not: why it was compared with nothing; empty if it was.
        difference: the largest difference, of the output that differs most as a share of its
            magnitude.
        magnitude: the largest magnitude of that output, as the model computes it.
        where: that output, the trip and the observation.
        tolerance: the largest share that was allowed.
        observations: how many were compared: the example, and variations of it.

    Raises ValueError if a figure is impossible, or says that the bundle should not exist.
    """

    against: str
    why_not: str
    difference: float = 0.0
    magnitude: float = 0.0
    where: str = ""
    tolerance: float = 0.0
    observations: int = 0

    def __post_init__(self) -> None:
        figures = (self.difference, self.magnitude, self.tolerance)
        if not all(0 <= figure < math.inf for figure in figures) or self.observations < 0:
            raise ValueError("the figures of its model check must be finite, and at least 0")
        if bool(self.against) == bool(self.why_not):
            raise ValueError("its model check must name a model, or say why there was none")

    def __str__(self) -> str:
        if not self.against:
            return f"not compared with the model it came from: {self.why_not}"
        said = f"against {self.against}: largest difference {self.difference:.3g}"
        many = f"{self.observations} observation" + ("" if self.observations == 1 else "s")
        return f"{said} of {self.magnitude:.3g} ({self.where}; {many})"
