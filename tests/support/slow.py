"""Which values of a parametrised test run every time; the others run with `-m slow`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def quick(values: Iterable[Any], *every_time: Any) -> list[Any]:
    """The values, those not among `every_time` marked slow; a tuple is a value for each name.

    Each of `every_time` is one of the values, or a new name would leave nothing that runs.
    """
    values = list(values)
    assert all(one in values for one in every_time), f"{every_time}: not all are of {values}"
    return [
        pytest.param(
            *(value if isinstance(value, tuple) else (value,)),
            marks=() if value in every_time else pytest.mark.slow,
        )
        for value in values
    ]
