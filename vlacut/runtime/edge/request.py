"""A step to be made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vlacut.runtime.edge.memory import Moment


@dataclass(slots=True)
class StepRequest:
    """A step to be made.

    Attributes:
        observation: by name, checked against the plan's specs.
        captured_ns: when it was captured, on the clock of `time.perf_counter_ns`.
        step: its number.
        variant: index of the plan's.
        moment: the state that it is to build on; None where the plan has none.
    """

    observation: Mapping[str, np.ndarray]
    captured_ns: int
    step: int
    variant: int
    moment: Moment | None = None
