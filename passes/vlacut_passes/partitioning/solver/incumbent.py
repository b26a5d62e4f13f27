"""The incumbent: the best assignment that a search has met so far."""

from __future__ import annotations

from dataclasses import dataclass

from vlacut.tensor.numerics import ROUNDING, Ints
from vlacut_passes.partitioning.limits import all_within
from vlacut_passes.partitioning.solver.problem.problem import Problem


@dataclass
class Incumbent:
    """The best assignment of tasks met so far that keeps the limits.

    Attributes:
        value: of the objective; what is to be beaten while there is none.
        x: side of every task; None while there is none.
    """

    value: float
    x: Ints | None

    def offer(self, value: float, x: Ints) -> None:
        """Take the assignment if it is better by more than rounding, or as good and smaller."""
        noise = 1e-13 * abs(value)
        better = value < self.value - noise
        fewer = self.x is not None and x.sum() < self.x.sum()
        if better or (fewer and value <= self.value + noise):
            self.value, self.x = min(value, self.value), x

    def offer_variables(self, problem: Problem, x: Ints, peak_s: float) -> None:
        """The same for an assignment of a problem's variables, if it keeps the limits."""
        quantities = problem.quantities(x, peak_s)
        if problem.rises(x) and all_within(quantities.tolist(), problem.limits.most):
            self.offer(float(quantities[problem.limits.minimise]), x[problem.of_task])

    def closed_by(self, bound: float) -> bool:
        """Whether nothing better is left if everything else has at least the bound."""
        return self.value - bound <= ROUNDING * abs(self.value)
