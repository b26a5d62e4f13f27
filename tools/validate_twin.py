r"""The simulation against the twin: the same steps on paper and in real time, over traces.

    vlacut compile openvla --edge jetson-agx-orin --cloud a100 --link 10MB/s,20ms \
        --cloud-budget 12.1GiB --pool portfolio:14GB --backend emulated -o openvla.vlacut
    python tools/validate_twin.py openvla.vlacut TRACES [--count 10] [--seconds 25]

`--count` recordings are taken evenly from the folder, and of each the piece from its middle on. The
twin runs the real runtime over an emulated link in real time, the simulation what the runtime would
do on paper (`--knows frames`). Given to it is what a hop takes on this machine beyond the link, the
median of the twin's steps over the plan's link without delay. Each goes its own way: a step that
one starts just before an outage and the other after it is a difference. `same` has the paper take
every step of the twin, at its start and by its variant. Where a mean or a p95 is not within 5 %,
the twin runs again, and `again` is what it then differs from itself. The exit status is 1 if a
figure is not within 5 %, nor within what the twin differs from itself. What else runs on this
machine makes the twin late, never early: run it alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from vlacut.bundle.reading import read_bundle
from vlacut.cli.show.output import console, milliseconds, table
from vlacut.emulation import shape_of
from vlacut.emulation.twin import run_twin
from vlacut.hardware import Link, Trace, read_recordings
from vlacut.hardware.service import Service
from vlacut.plans.plan import Plan
from vlacut.simulation import FRAMES, Comparison, Recording, StepWalk, network_of, walks_of

WITHIN = 0.05
TRIED = 12
LEAST_RATE = 1e5  # bytes per second: below it a piece holds no ten steps

Step = tuple[float, float, int]  # start, latency, variant


def main() -> None:
    """Run, print a row per trace."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("traces", type=Path)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--selector", default="argmin")
    parser.add_argument("--predictor", default="ewma")
    asked = parser.parse_args()
    plan = read_bundle(asked.bundle).plan
    hop_s = overhead_s(asked.bundle, plan)
    link = replace(plan.link, message_s=hop_s)
    pieces = chosen(asked.traces, asked.count, asked.seconds)
    options = asked.seconds, asked.selector, asked.predictor
    pairs = []
    for name, trace in track(pieces, "twin", console=Console(stderr=True)):
        twins = [run(asked.bundle, plan, trace, *options)]
        paper = simulate(plan, link, trace, *options)
        if not Pair(name, trace, twins, paper).within:
            twins.append(run(asked.bundle, plan, trace, *options))
        pairs.append(Pair(name, trace, twins, paper))
    columns = ("piece", "Mbit/s", "steps", "switches", "twin mean", "p95", "paper mean", "p95")
    notes = ("mean", "p95", "same", "again mean", "p95")
    title = f"{plan.program}, {asked.selector} {asked.predictor}, milliseconds a step: twin / paper"
    rows = [(*pair.row, *pair.notes(plan, link)) for pair in pairs]
    console().print(table(title, (*columns, *notes), rows))
    within, alike = (sum(found) for found in zip(*(pair.verdict for pair in pairs), strict=True))
    console().print(
        f"\n{within} of {len(pairs)} within {WITHIN:.0%}, {alike} within that or what the twin "
        f"differs from itself; a hop takes {milliseconds(hop_s)} ms here"
    )
    sys.exit(1 if alike < len(pairs) else 0)


@dataclass(frozen=True)
class Pair:
    """A piece, by the twin once or twice and on paper."""

    name: str
    trace: Trace
    twins: Sequence[Sequence[Step]]
    paper: Sequence[Step]

    @property
    def within(self) -> bool:
        """Whether mean and p95 agree."""
        return max(map(abs, errors(self.twins[0], self.paper))) <= WITHIN

    @property
    def own(self) -> tuple[float, float]:
        """What the twin's second run differs from its first: mean and p95."""
        return errors(self.twins[0], self.twins[-1])

    @property
    def verdict(self) -> tuple[bool, bool]:
        """Whether they agree; and whether they do, or differ no more than the twin from itself."""
        found = errors(self.twins[0], self.paper)
        pairs = zip(found, self.own, strict=True)
        return self.within, all(abs(one) <= max(WITHIN, abs(own)) for one, own in pairs)

    @property
    def row(self) -> tuple[str, ...]:
        """For the table: what both took."""
        twin, paper = self.twins[0], self.paper
        counts = f"{len(twin)} / {len(paper)}", f"{changes(twin)} / {changes(paper)}"
        shown = [milliseconds(one) for steps in (twin, paper) for one in figures(latencies(steps))]
        return self.name, f"{self.trace.mean * 8e-6:.3g}", *counts, *shown

    def notes(self, plan: Plan, link: Link) -> tuple[str, ...]:
        """For the table: how they differ."""
        spent = latencies(self.twins[0])
        same = again(plan, link, self.trace, self.twins[0]).mean() / spent.mean() - 1
        shown = [f"{error:+.1%}" for error in (*errors(self.twins[0], self.paper), same)]
        own = [f"{error:+.1%}" for error in self.own] if len(self.twins) > 1 else ["", ""]
        return *shown, *own


def errors(twin: Sequence[Step], paper: Sequence[Step]) -> tuple[float, float]:
    """Of mean and p95, as shares of the first's."""
    mean, p95 = (
        after / before - 1
        for before, after in zip(figures(latencies(twin)), figures(latencies(paper)), strict=True)
    )
    return mean, p95


def chosen(folder: Path, count: int, seconds: float) -> list[tuple[str, Trace]]:
    """Pieces of recordings, evenly from all that are long and fast enough."""
    pieces = []
    for name, traces in read_recordings(folder).items():
        longest = max(traces, key=lambda trace: sum(trace.seconds))
        piece = middle(longest, seconds)
        if piece is not None and piece.mean >= LEAST_RATE:
            pieces.append((name, piece))
    picked = np.linspace(0, len(pieces) - 1, min(count, len(pieces))).round().astype(int)
    return [pieces[index] for index in picked]


def middle(trace: Trace, seconds: float) -> Trace | None:
    """The piece of so many seconds from the middle on; None if it is not as long."""
    ends = list(accumulate(trace.seconds))
    first = len(ends) // 2
    last = next((i for i, end in enumerate(ends) if end >= ends[first] + seconds), None)
    if last is None:
        return None
    piece = Trace(trace.rates[first + 1 : last + 1], trace.seconds[first + 1 : last + 1])
    return piece if max(piece.rates) > 0 and Service(piece).seconds >= seconds * 0.99 else None


def overhead_s(bundle: Path, plan: Plan) -> float:
    """What a hop takes here beyond the link: sockets, the emulator, and late engines.

    At the rates of the plan's link: what only a faster one would wait for is not in it.
    """
    free = Link(plan.link.up, plan.link.down)
    index = max(range(len(plan.variants)), key=lambda one: plan.variants[one].price.hops)
    variant = plan.variants[index]
    steps = run_twin(bundle, shape_of(free), steps=TRIED, selector=variant.name)
    paper = StepWalk(plan, index).end(0.0, network_of(free))
    spent = float(np.median([step.report.latency_s for step in steps[1:]]))
    return max(0.0, (spent - paper) / variant.price.hops)


def run(
    bundle: Path, plan: Plan, trace: Trace, seconds: float, selector: str, predictor: str
) -> list[Step]:
    """The twin's steps."""
    link = shape_of(plan.link, trace)
    steps = run_twin(
        bundle, link, seconds=seconds, selector=selector, predictor=predictor, timeout=120.0
    )
    index = {variant.name: at for at, variant in enumerate(plan.variants)}
    return [(one.start_s, one.report.latency_s, index[one.report.variant]) for one in steps]


def simulate(
    plan: Plan, link: Link, trace: Trace, seconds: float, selector: str, predictor: str
) -> list[Step]:
    """The paper's."""
    race = Comparison(plan, [Recording("piece", trace)], link, knows=FRAMES, seconds=seconds)
    made = race.run([selector], [predictor])[1].outcomes[0]
    return list(zip(made.starts, made.latencies, made.variants, strict=True))


def again(plan: Plan, link: Link, trace: Trace, steps: Sequence[Step]) -> np.ndarray:
    """What each of the twin's steps takes on paper."""
    walks, network = walks_of(plan), network_of(link, trace)
    return np.array([walks[variant].end(start, network) - start for start, _, variant in steps])


def latencies(steps: Sequence[Step]) -> np.ndarray:
    """Of every step."""
    return np.array([spent for _, spent, _ in steps])


def figures(spent: np.ndarray) -> tuple[float, float]:
    """Mean and p95."""
    return float(spent.mean()), float(np.quantile(spent, 0.95))


def changes(steps: Sequence[Step]) -> int:
    """Steps by another variant than the step before."""
    return sum(one[2] != other[2] for one, other in pairwise(steps))


if __name__ == "__main__":
    main()
