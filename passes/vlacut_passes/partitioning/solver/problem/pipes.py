"""Pipes: later trips of a loop that leads one way, each of which takes the longest of three stages.

The stages are linear in the assignment, flows included. So any mix of them with weights that add up
to 1 bounds the longest stage from below. Paths bound the deepest chain alike, see `relaxation`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlacut.tensor.numerics import Floats, Ints
from vlacut_passes.partitioning.solver.problem.nets import Nets, merged_nets, summed


@dataclass(frozen=True)
class Pipe:
    """The later trips of a loop. All in seconds of a control step.

    Attributes:
        base, unary: compute is `base + unary @ x`: a row on the edge, a row in the cloud.
        moves: what crosses.
    """

    base: Floats
    unary: Floats
    moves: Nets

    def stages(self, x: Ints) -> Floats:
        """What edge, cloud and link take."""
        return np.array([*(self.base + self.unary @ x), self.moves.moved(x)[0]])

    def relabel(self, label: Ints, size: int) -> Pipe:
        """The pipe with variable v called `label[v]`; 0 is the edge and 1 the cloud."""
        unary = np.stack([summed(label, of, size) for of in self.unary])
        base = self.base + unary[:, 1]
        unary[:, :2] = 0.0
        return Pipe(base, unary, merged_nets(self.moves, label))
