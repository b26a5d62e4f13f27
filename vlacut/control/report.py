"""The report of a command: where it comes from, how old it is, and why nothing newer was asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vlacut.control.situation import STILL, Motion
from vlacut.hardware import Side
from vlacut.plans.plan import Plan
from vlacut.runtime.edge.report import StepReport

EDGE, CLOUD, CUT = "edge", "cloud", "cut"


@dataclass(frozen=True)
class Route:
    """Where an inference of a variant runs.

    Attributes:
        variant: its name.
        route: `edge` alone, `cloud` alone, or `cut`.
        precision: the variant's; of the program as it is, the element types of the floats that its
            parts exchange.
        rounded: whether that is another than the program's own.
        error: how far it moves the action, as a share of its magnitude, as compiled; 0 for the
            program as it is, None where it was not measured.
        cost: what an inference costs, by what can be minimised.
    """

    variant: str
    route: str
    precision: str
    edge_s: float = 0.0
    cloud_s: float = 0.0
    edge_j: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0
    rounded: bool = False
    error: float | None = 0.0


def routes_of(plan: Plan) -> tuple[Route, ...]:
    """The routes of a plan's variants, in their order."""
    made = []
    for variant, crosses in zip(plan.variants, plan.crosses, strict=True):
        parts = [*plan.variant_parts(variant, Side.EDGE), *plan.variant_parts(variant, Side.CLOUD)]
        keys = {key for part in parts for key in (*part.inputs, *part.outputs)}
        floats = {spec.dtype for key in keys if "float" in (spec := plan.spec[key]).dtype}
        alone = CLOUD if not plan.variant_parts(variant, Side.EDGE) else CUT
        cost = variant.price
        made.append(
            Route(
                variant.name,
                alone if crosses else EDGE,
                variant.precision or "+".join(sorted(floats)),
                cost.edge_s + cost.edge_codec_s,
                cost.cloud_s + cost.cloud_codec_s,
                cost.edge_j,
                cost.bytes_up,
                cost.bytes_down,
                bool(variant.precision),
                variant.action_error.measured,
            )
        )
    return tuple(made)


@dataclass(frozen=True)
class CommandReport:
    """What a tick did. Times in nanoseconds are on the loop's clock.

    Attributes:
        tick: its number, from 0.
        at_ns: when it was.
        command: [width]; None before the first chunk.
        captured_ns: when the oldest observation that has a share in the command was captured.
        inference: number of the inference whose chunk is in force; None before the first.
        chunks: numbers of all that have a share.
        index: of the command in its chunk; past its horizon where starved.
        starved: whether no chunk has a command for now: the last one is held, or damped.
        route: of the chunk in force.
        source: where the session had its action from.
        asked: number of the inference that this tick began; None if it did not.
        in_flight: number of the one that is under way; None if there is none.
        dropped: why a chunk that came was not used; empty if none came, or it was.
        why: what the controller said.
        motion: the trigger's scores.
        step: the session's report of the inference in force.
    """

    tick: int
    at_ns: int
    command: np.ndarray | None
    captured_ns: int
    inference: int | None = None
    chunks: tuple[int, ...] = ()
    index: int = 0
    starved: bool = False
    route: Route | None = None
    source: str = ""
    asked: int | None = None
    in_flight: int | None = None
    dropped: str = ""
    why: str = ""
    motion: Motion = STILL
    step: StepReport | None = field(default=None, repr=False)

    @property
    def age_s(self) -> float:
        """From the capture of the oldest observation behind the command to the tick."""
        return (self.at_ns - self.captured_ns) * 1e-9


@dataclass(frozen=True)
class Tallied:
    """The ticks of a run.

    Attributes:
        ticks: all of them.
        commands: ticks that had a command.
        age_s: mean, 95 % and 99 % quantiles of the commands' ages.
        starved: ticks for which no chunk had a command.
        free: share of the ticks that began no inference.
        inferences: how many were begun, by route.
        dropped: how many chunks were not used, by reason.
    """

    ticks: int
    commands: int
    age_s: tuple[float, float, float]
    starved: int
    free: float
    inferences: dict[str, int]
    dropped: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """Plain data; ages in milliseconds."""
        mean, p95, p99 = (one * 1e3 for one in self.age_s)
        return {
            "ticks": self.ticks,
            "with_command": self.commands,
            "age_ms": {"mean": mean, "p95": p95, "p99": p99},
            "starved": self.starved,
            "share_without_inference": self.free,
            "inferences": self.inferences,
            "dropped": self.dropped,
        }


def tally(reports: Sequence[CommandReport]) -> Tallied:
    """The summary of some ticks."""
    made = [one for one in reports if one.command is not None]
    ages = np.array([one.age_s for one in made] or [0.0])
    quantiles = np.quantile(ages, (0.95, 0.99))
    routes = Counter(one.route.route for one in _first_of_each(made) if one.route)
    asked = sum(one.asked is not None for one in reports)
    return Tallied(
        len(reports),
        len(made),
        (float(ages.mean()), float(quantiles[0]), float(quantiles[1])),
        sum(one.starved for one in reports),
        1 - asked / max(1, len(reports)),
        dict(routes),
        dict(Counter(one.dropped for one in reports if one.dropped)),
    )


def _first_of_each(reports: Sequence[CommandReport]) -> list[CommandReport]:
    """One report for each chunk that was in force."""
    seen: dict[int, CommandReport] = {}
    for one in reports:
        if one.inference is not None:
            seen.setdefault(one.inference, one)
    return list(seen.values())
