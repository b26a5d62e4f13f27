"""The table of precisions: which one suffices at which sensitivity; the file that holds it.

The file is JSON, the fields of `PrecisionTable` as they are called. It is made by `vlacut
calibrate-precision` of a bundle and recorded episodes.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vlacut.bundle.serde import from_json, to_json
from vlacut.bundle.staging import write_file
from vlacut.control.signals.fineness import MotionUnits
from vlacut.errors import BundleError, InputError

FORMAT = 1
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class PrecisionTable:
    """DyQ-VLA's lookup from sensitivity to precision.

    Attributes:
        format: number of the file's format.
        precisions: names, the most exact one first; the first is empty, the program as it is.
        units: of the commands that the sensitivity is taken from.
        edges: sensitivities between bins, rising.
        levels: by bin, the index of the least exact precision whose error is allowed there; they do
            not rise.
        eps: by bin, the error that is allowed, as a share of the commands' ranges.
        errors: by precision and bin, the error that a share alpha of the ticks exceeds.
        alpha: that share.
        counts: ticks that a bin was made of.

    Raises BundleError where these do not fit together.
    """

    format: int = FORMAT
    precisions: tuple[str, ...]
    units: MotionUnits
    edges: tuple[float, ...]
    levels: tuple[int, ...]
    eps: tuple[float, ...]
    errors: tuple[tuple[float, ...], ...]
    alpha: float
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise BundleError(f"table of precisions: {problem}; make it with calibrate-precision")

    def _problem(self) -> str:
        bins, units = len(self.levels), self.units
        if self.format != FORMAT:
            return f"not of format {FORMAT}"
        if (
            not self.precisions
            or self.precisions[0]
            or len(set(self.precisions)) != len(self.precisions)
        ):
            return "its precisions do not begin with the program as it is, or are not all different"
        lengths = {len(one) for one in (self.eps, self.counts, *self.errors)}
        if lengths != {bins} or len(self.edges) != bins - 1:
            return "its bins are not as many everywhere"
        if len(self.errors) != len(self.precisions):
            return "its errors are not those of its precisions"
        if list(self.edges) != sorted(self.edges) or list(self.levels) != sorted(
            self.levels, reverse=True
        ):
            return "its bins are not in order"
        if not all(0 <= level < len(self.precisions) for level in self.levels):
            return "a level is none of its precisions"
        numbers = (*self.edges, *self.eps, units.mu, units.nu, *(e for r in self.errors for e in r))
        if not all(map(math.isfinite, numbers)) or not (units.mu > 0 and units.nu > 0):
            return "its numbers are not finite, or a unit is not above 0"
        if min((0, *units.translation, *units.rotation)) < 0:
            return "a column is below 0"
        return ""

    def level(self, sensitivity: float) -> int:
        """The index of the least exact precision that suffices."""
        return self.levels[bisect_right(self.edges, sensitivity)]

    def check(self, precisions: Iterable[str], width: int | None = None) -> None:
        """Raise InputError where a plan lacks the table's precisions, or a command its columns."""
        missing = sorted(set(self.precisions) - set(precisions))
        if missing:
            raise InputError(
                f"the plan has no variant in {', '.join(missing)}, which the table of precisions "
                f"asks for; calibrate this bundle"
            )
        columns = (*self.units.translation, *self.units.rotation)
        if width is not None and columns and max(columns) >= width:
            raise InputError(f"the table of precisions reads column {max(columns)} of {width}")


def write_precision_table(path: Path, table: PrecisionTable) -> None:
    """Write the file."""
    write_file(path, (json.dumps(to_json(table), indent=1, sort_keys=True) + "\n").encode())


def read_precision_table(path: Path) -> PrecisionTable:
    """What a file holds; BundleError if that is no table of this format."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BundleError(f"{path}: is larger than any table of precisions")
        parsed = json.loads(path.read_bytes())
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: is no table of precisions: {error}") from error
    return from_json(PrecisionTable, parsed, str(path))
