"""Element types that executors lack, and what is done about them.

What both sides lack is converted before the program is cut. What one side lacks it computes in
another type: its parts are converted once they are cut, and what crosses keeps the program's type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vlacut.hardware import Side

Types = Mapping[str, str]  # each with the one to compute in instead


@dataclass(frozen=True)
class Conversions:
    """What a program is converted to.

    Attributes:
        both: types of the whole program.
        ends: types of the observation and the action alone: where one side lacks them they are what
            the robot's numpy has.
        sides: types of what runs on a side.
    """

    both: Types = field(default_factory=dict)
    ends: Types = field(default_factory=dict)
    sides: Mapping[Side, Types] = field(default_factory=dict)


NONE = Conversions()
