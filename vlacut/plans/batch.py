"""Batches: an engine that runs a part for several robots at once, and reads its weights once.

Such an engine reads and makes the part's tensors once for each robot: `slot` names them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlacut.errors import BundleError, InputError

OFF = "off"  # of a server: one robot after the other
MOST_TOGETHER = 64  # robots in a batch: as many as a server takes by default


@dataclass(frozen=True)
class Batch:
    """An engine of a part for several robots.

    Attributes:
        robots: how many.
        seconds: predicted time of one execution, for all of them.
    """

    robots: int
    seconds: float


def slot(key: str, number: int) -> str:
    """The name of a robot's tensor in a batch; robots are counted from 0."""
    return f"{key}#{number}"


def batch_name(part: str, robots: int) -> str:
    """The name of a part's engine for so many robots."""
    return f"{part}.x{robots}"


def check_batches(part: str, batches: Sequence[Batch]) -> None:
    """Raises BundleError if the batches of a part are not of 2 robots or more, each more."""
    sizes = [batch.robots for batch in batches]
    if sizes != sorted(set(sizes)) or any(not 2 <= size <= MOST_TOGETHER for size in sizes):
        raise BundleError(f"part {part}: batches of {sizes} robots; they are of 2 and more, rising")
    if any(not batch.seconds >= 0 for batch in batches):
        raise BundleError(f"part {part}: a batch takes no time that can be")


def parse_batches(text: str) -> tuple[int, ...]:
    """The sizes beyond one of a text `1,2,4,8`. Raises InputError for what is none."""
    try:
        sizes = sorted({int(each) for each in text.split(",")}) if text else []
    except ValueError:
        sizes = [0]
    if any(not 1 <= size <= MOST_TOGETHER for size in sizes):
        raise InputError(
            f"--batch: {text!r}: write how many robots run at once, up to {MOST_TOGETHER}: 1,2,4,8"
        )
    return tuple(size for size in sizes if size > 1)
