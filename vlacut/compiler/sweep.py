"""Sweep: the plans of a model over a range of bandwidths, or of budgets.

The model is simplified and annotated once; only `partition` runs for every point.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from vlacut.compiler.target import Target
from vlacut.compiler.target_pipeline import check_pipeline, pipeline_for
from vlacut.errors import InfeasibleError, InputError, Progress, unwatched
from vlacut.hardware import Link, parse_bytes, parse_link
from vlacut.ir.annotation import CUTS, forget
from vlacut.ir.pipeline import Pass, Pipeline, parse_pipeline
from vlacut.ir.program import Program
from vlacut.pricing.price import Certificate, Strategy

LINK, CLOUD_BUDGET = "link", "cloud-budget"
POINTS = 13  # six a decade of the usual two
_RANGE = re.compile(rf"({LINK}|{CLOUD_BUDGET})=([^,]+?)\.\.([^,]+)")


@dataclass(frozen=True)
class Axis:
    """What is swept: `link=1MB/s..100MB/s` or `cloud-budget=2GB..14GB`.

    Attributes:
        name: `link` or `cloud-budget`.
        low, high: its ends, in bytes per second (of the uplink) or bytes; low is above 0.
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
        amount: bytes per second (of the uplink) or bytes.
        strategies: rows of the report, the chosen one first; empty if no cut is allowed.
        certificate: the optimum's; None if no cut is allowed.
        why_not: why no cut is allowed; empty if one is.
        kept_s: seconds per control step at this bandwidth of the cut that is chosen for the link
            asked for (RoboECC's figure 3); None in a sweep of budgets, or without such a cut.
    """

    amount: float
    strategies: tuple[Strategy, ...]
    certificate: Certificate | None = None
    why_not: str = ""
    kept_s: float | None = None


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
    progress: Progress = unwatched,
) -> tuple[Point, ...]:
    """Annotate a program, in place, and cut it at every point of the axis.

    Raises InputError where the request is at fault, PassError where a pass is.
    """
    _check(target, axis)
    asked = parse_pipeline(pipeline or pipeline_for(target))
    names = [item.name for item in asked.passes]
    if "partition" not in names:
        raise InputError("a sweep needs partition in its pipeline")
    check_pipeline(target, asked)
    place = names.index("partition")
    forget(program)
    Pipeline(asked.passes[:place]).run(program, progress)
    partition, link = asked.passes[place], target.network()
    kept = _point(program, partition, link.wire_up).strategies[:1] if axis.name == LINK else ()
    points = []
    for done, amount in enumerate(axis.amounts()):
        progress(f"partition, {axis.name}", done, POINTS)
        found = _point(program, _at(partition, axis, amount, link), amount)
        for row in kept:
            found = replace(found, kept_s=row.price.over(link.at(amount)))
        points.append(found)
    return tuple(points)


def _check(target: Target, axis: Axis) -> None:
    """Raise InputError for a target that is at fault, or that a sweep would not heed."""
    target.check()
    if axis.name == LINK and target.link.endswith(".toml"):
        raise InputError("a sweep of the link changes its rates: write --link UP[/DOWN][,RTT]")
    if axis.name == LINK and target.link_trace:
        raise InputError("--sweep link and --link-trace both set the bandwidth; leave one out")
    if axis.name == CLOUD_BUDGET and target.cloud_budget:
        raise InputError("--sweep cloud-budget takes the place of --cloud-budget; leave that out")
    if target.undecided:
        raise InputError(
            "a sweep has one way to run a loop; write a number --in-flight, or a --draft"
        )
    if target.pool != "none":
        raise InputError("a sweep has one cut a point, and no pool; leave --pool out")


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
        return Point(amount, (), why_not=str(error))
    cuts = CUTS.get(program)
    return Point(amount, cuts.strategies, cuts.certificate)
