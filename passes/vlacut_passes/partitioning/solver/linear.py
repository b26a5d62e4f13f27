"""Linear programs, on HiGHS by its own package, which is imported in a tenth of scipy's time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import highspy
import numpy as np

from vlacut.errors import PassError
from vlacut.tensor.numerics import Floats


class Solution(NamedTuple):
    """An optimum.

    Attributes:
        x: the value of every column.
        shadow: by how much the optimum moves if the upper bound of a row moves by one.
    """

    x: Floats
    shadow: Floats


def _silent() -> Any:
    """HiGHS without its banner, which it prints when its callbacks are set up."""
    kind: Any = highspy.Highs
    solver = kind.__new__(kind)
    kind.__base__.__init__(solver)
    solver.silent()
    return solver


def solve_linear(
    cost: Floats, at_most: Floats, equal: Floats, bounds: Sequence[tuple[float, float]]
) -> Solution:
    """Minimise cost @ x where at_most @ x <= 0, equal @ x = 0, and x is within its bounds.

    `shadow` is of the rows `at_most`. Raises PassError if there is no optimum.
    """
    solver = _silent()
    status = solver.passModel(_model(cost, at_most, equal, np.array(bounds)))
    if status != highspy.HighsStatus.kError:
        solver.run()
    found = solver.getModelStatus()
    if found != highspy.HighsModelStatus.kOptimal:
        raise PassError(f"HiGHS found no multipliers: {solver.modelStatusToString(found)}")
    solution = solver.getSolution()
    return Solution(np.array(solution.col_value), np.array(solution.row_dual)[: len(at_most)])


def _model(cost: Floats, at_most: Floats, equal: Floats, bounds: Floats) -> highspy.HighsLp:
    rows = np.vstack([at_most, equal])
    row, column = np.nonzero(rows)
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = len(cost), len(rows)
    model.col_cost_, model.col_lower_, model.col_upper_ = cost, bounds[:, 0], bounds[:, 1]
    model.row_lower_ = np.concatenate([np.full(len(at_most), -np.inf), np.zeros(len(equal))])
    model.row_upper_ = np.zeros(len(rows))
    matrix = model.a_matrix_
    matrix.format_ = highspy.MatrixFormat.kRowwise
    matrix.start_ = np.searchsorted(row, np.arange(len(rows) + 1)).astype(np.int32)
    matrix.index_, matrix.value_ = column.astype(np.int32), rows[row, column]
    return model
