"""Prices requests in flight and drafts of OpenVLA-7B on robots, beside ActionFlow's measurements.

    .venv/bin/python tools/price_pack.py

Measured: ActionFlow (arXiv 2512.20276), BF16, everything on the robot: the baseline's step and
that with 7 requests in flight. Ours: predictions of the cost model on shapes, of the zoo's OpenVLA
with all of it on the edge, by the device's stack; a joined product costs its rows, with its weight
read once. `age` is that of the action in force on average, (K + 1/2) steps; ActionFlow's follows
from its steps likewise. Drafts are priced all
right, and all wrong, when every trip runs again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from vlacut.compiler.trace_cache import TraceCache
from vlacut.compiler.tracing import traced_program
from vlacut.ir.annotation import SECONDS, WARMING
from vlacut.ir.program import Program, copied
from vlacut.plans.ways import age_s
from vlacut_passes.annotate_cost import AnnotateCost
from vlacut_passes.draft import Draft
from vlacut_passes.in_flight import InFlight
from vlacut_passes.pack import Pack
from vlacut_passes.simplify import Simplify

PUBLISHED_MS = {  # device: a step of the baseline, and with 7 requests in flight
    "jetson-agx-orin": (803.0, 313.0),
    "jetson-agx-thor": (664.0, 146.0),
}
ATTENTION = {"alone": "", "batched": ", batched"}  # of instances: what a way is called then


class Priced(NamedTuple):
    """A way to run the policy: seconds of a step, and how many steps an action is behind."""

    way: str
    seconds: float
    behind: int = 0

    @property
    def age_s(self) -> float:
        """Of the action in force, on average."""
        return age_s(self.behind, self.seconds)


def main() -> None:
    """Print a table for every device and stack."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="openvla")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[2, 3, 4, 7])
    parser.add_argument("--stacks", nargs="+", default=["eager", "cuda-graph", "tensorrt"])
    chosen = parser.parse_args()
    ways = ways_of(chosen.model, chosen.in_flight, list(ATTENTION))
    for device, published in PUBLISHED_MS.items():
        for stack in chosen.stacks:
            show(f"{device}+{stack}", list(priced(ways, f"{device}+{stack}")), published)


def ways_of(
    model: str, in_flight: Sequence[int], attention: Sequence[str] = ("alone",)
) -> dict[str, Program]:
    """A model trip by trip, with so many requests in flight, and with drafts, by attention."""
    program = traced_program(model, cache=TraceCache())
    Simplify().run(program)
    ways = {"trip by trip": copied(program)}
    for requests in in_flight:
        for one in attention:
            made = packed(copied(program), InFlight(requests), one)
            ways[f"{requests} in flight{ATTENTION[one]}"] = made
    for one in attention:
        ways[f"drafts{ATTENTION[one]}"] = packed(copied(program), Draft("input"), one)
    return ways


def packed(program: Program, rewriting: InFlight | Draft, attention: str) -> Program:
    """A program after a rewriting, simplified and packed."""
    for one in (rewriting, Simplify(), Pack(attention)):
        one.run(program)
    return program


def priced(ways: dict[str, Program], device: str) -> Iterator[Priced]:
    """Every way on a device."""
    for way, program in ways.items():
        AnnotateCost(edge=device, cloud=device).run(program)
        again = "If"  # of drafts: what runs behind the first wrong one
        seconds = sum(
            phase.trips * SECONDS.get(node).edge
            for phase in program.phases
            for node in phase.model.graph
            if node.op_type != again
        )
        if not way.startswith("drafts"):
            yield Priced(way, seconds, WARMING.find(program) or 0)
            continue
        plain = ways["trip by trip"]
        trips = sum(
            phase.trips * SECONDS.get(node).edge
            for phase in plain.phases
            if phase.trips > 1
            for node in phase.model.graph
        )
        yield Priced(f"{way}, all right", seconds)
        yield Priced(f"{way}, all wrong", seconds + trips)


def show(device: str, found: list[Priced], published: tuple[float, float]) -> None:
    """A device's table."""
    table = Table(title=f"{device}: predicted milliseconds", box=None)
    for column in ("way", "a step", "actions/s", "x rate", "latency", "age", "x age", "ActionFlow"):
        table.add_column(column, justify="left" if column == "way" else "right")
    measured = {"trip by trip": published[0], "7 in flight": published[1]}
    plain = found[0]
    for one in found:
        theirs = measured.get(one.way)
        their_age = theirs and age_s(one.behind, theirs * 1e-3) * 1e3
        table.add_row(
            one.way,
            f"{one.seconds * 1e3:.0f}",
            f"{1 / one.seconds:.2f}",
            f"{plain.seconds / one.seconds:.2f}",
            f"{(one.behind + 1) * one.seconds * 1e3:.0f}",
            f"{one.age_s * 1e3:.0f}",
            f"{one.age_s / plain.age_s:.2f}",
            f"{theirs:.0f} ms, {1e3 / theirs:.2f}/s, age {their_age:.0f}" if theirs else "",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
