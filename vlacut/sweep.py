"""Sweep: the plan of a model for one bandwidth, or one budget, after another.

The model is simplified and annotated once; only `partition` runs for every point.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from vlacut.annotation import STRATEGIES
from vlacut.errors import InfeasibleError, InputError
from vlacut.hardware import Link, load_device, parse_bytes, parse_link
from vlacut.pipeline import Pass, Pipeline, parse_pipeline
from vlacut.pricing import Strategy
from vlacut.program import Program
from vlacut.target import Target

LINK, CLOUD_BUDGET = "link", "cloud-budget"
POINTS = 13  # six a decade of the usual two
_RANGE = re.compile(rf"({LINK}|{CLOUD_BUDGET})=([^,]+?)\.\.([^,]+)")


@dataclass(frozen=True)
class Axis:
    """What is swept: `link=1MB/s..100MB/s` or `cloud-budget=2GB..14GB`.

    Attributes:
        name: `link` or `cloud-budget`.
        low, high: its ends, in bytes a second (of the uplink) or bytes; low is above 0.
    """

    name: str
    low: float
    high: float

    def amounts(self) -> Iterator[float]:
        """The points, from low to high: bandwidths in equal ratios, budgets in equal steps."""
        for index in range(POINTS):
            share = index / (POINTS - 1)
            if self.name == LINK:
                yield self.low * (self.high / self.low) ** share
            else:
                yield float(round(self.low + (self.high - self.low) * share))


@dataclass(frozen=True)
class Point:
    """The plan at one point.

    Attributes:
        amount: bytes a second (of the uplink) or bytes.
        strategies: rows of the report, the chosen one first; empty where no cut is allowed.
        why_not: why none is; empty if one is.
    """

    amount: float
    strategies: tuple[Strategy, ...]
    why_not: str = ""


def parse_axis(text: str) -> Axis:
    """The axis a text describes; InputError, with an example, if it does not parse."""
    match = _RANGE.fullmatch(text)
    if match is None:
        raise InputError(
            f"sweep {text!r} does not parse; write {LINK}=1MB/s..100MB/s or "
            f"{CLOUD_BUDGET}=2GB..14GB"
        )
    name, low, high = match.groups()
    read: Callable[[str], float] = parse_bytes if name == CLOUD_BUDGET else _bandwidth
    axis = Axis(name, read(low), read(high))
    if not 0 < axis.low < axis.high:
        raise InputError(f"sweep {text!r}: the first end must be above 0 and below the second")
    return axis


def _bandwidth(text: str) -> float:
    link = parse_link(text)
    if link.down != link.up or link.rtt:
        raise InputError(
            f"sweep {text!r}: write the uplink's bandwidth alone; --link says the downlink's ratio "
            f"to it, and the round trip"
        )
    return link.wire_up


def sweep(
    program: Program,
    target: Target,
    axis: Axis,
    pipeline: str = "",
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> tuple[Point, ...]:
    """Annotate a program, in place, and cut it at every point of the axis.

    Raises InputError where the request is at fault, PassError where a pass is.
    """
    for device in (target.edge, target.cloud):
        load_device(device)
    passes = parse_pipeline(pipeline or target.pipeline()).passes
    places = [index for index, item in enumerate(passes) if item.name == "partition"]
    if not places:
        raise InputError("a sweep needs partition in its pipeline")
    Pipeline(passes[: places[0]]).run(program, progress)
    if axis.name == LINK and target.link.endswith(".toml"):
        raise InputError("a sweep of the link changes its rates: write --link UP[/DOWN][,RTT]")
    partition, link = passes[places[0]], target.network()
    points = []
    for done, amount in enumerate(axis.amounts()):
        progress(f"partition, {axis.name}", done, POINTS)
        points.append(_point(program, _at(partition, axis, amount, link), amount))
    return tuple(points)


def _at(partition: Pass, axis: Axis, amount: float, link: Link) -> Pass:
    """The pass for one point."""
    option = {"cloud_budget": f"{amount:.0f}B"}
    if axis.name == LINK:
        option = {"link": str(link.at(amount))}
    changed: Any = partition  # a pass is a dataclass of its options
    made: Pass = replace(changed, **option)
    return made


def _point(program: Program, partition: Pass, amount: float) -> Point:
    try:
        Pipeline((partition,)).run(program)
    except InfeasibleError as error:
        return Point(amount, (), str(error))
    return Point(amount, STRATEGIES.get(program))
