"""Every strategy against the optimum, on full-size models: latencies, as ratios to ours.

    python tools/compare_strategies.py [--models openvla cogact] [--edges jetson-agx-orin]
        [--links 1MB/s,20ms ...]

On Orin + A100 and Thor + A100, at 1, 10 and 100 MB/s, without and with the paper's cloud budget:
the weights of the backbone (12.06 GiB for OpenVLA and CogACT; RoboECC, tables II and III). A model
is traced and simplified once, priced once per pair of devices; only `partition` runs for every row.

Ours is what a plan takes: the optimum, or a simpler cut that costs at most 1 % more. A ratio is a
strategy's latency over ours: below 1 it would be faster. A star marks a cut that is not allowed:
over the budget, or not bit-exact. The exit status is 1 if an allowed cut is faster than the optimum
by more than rounding.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.progress import track

from vlacut import registry
from vlacut.cli.show.output import milliseconds, table
from vlacut.errors import InfeasibleError
from vlacut.frontends.load import load_program
from vlacut.ir.annotation import CUTS
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Program
from vlacut.pricing.price import Strategy

MODELS = registry.names("models")
EDGES = ("jetson-agx-orin", "jetson-agx-thor")
LINKS = ("1MB/s,20ms", "10MB/s,20ms", "100MB/s,20ms")
PAPER = "backbone-in-cloud"
ROUNDING = 1e-9


@dataclass(frozen=True)
class Case:
    """One row: what was asked, how long `partition` took, every strategy, ours first, and by what
    share a better cut than ours might be better.
    """

    model: str
    edge: str
    link: str
    budget: int
    seconds: float
    strategies: tuple[Strategy, ...] = ()
    gap: float = 0.0
    failed: str = ""

    def ratio(self, row: Strategy) -> float:
        """Latency over ours."""
        return row.price.total_s / self.strategies[0].price.total_s

    def over_optimum(self, row: Strategy) -> float:
        """Latency over the optimum's."""
        best = next((one for one in self.strategies if one.name == "optimal"), self.strategies[0])
        return row.price.total_s / best.price.total_s

    def alone(self, name: str) -> str:
        """Milliseconds of everything on one machine."""
        row = next((one for one in self.strategies if one.name == name), None)
        return milliseconds(row.price.total_s) if row else "-"


def main() -> None:
    """Run, print the table and the summary."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--edges", nargs="+", default=EDGES)
    parser.add_argument("--links", nargs="+", default=LINKS)
    parser.add_argument("--no-budget", action="store_true", help="only the rows without a budget")
    asked = parser.parse_args()
    out = Console(width=110, highlight=False)
    points = len(asked.models) * len(asked.edges) * len(asked.links) * (1 if asked.no_budget else 2)
    rows = cases(asked.models, asked.edges, asked.links, not asked.no_budget)
    found = list(track(rows, "plan", total=points, console=Console(stderr=True)))
    show(out, found)
    sys.exit(1 if summary(out, found) else 0)


def cases(
    models: Sequence[str], edges: Sequence[str], links: Sequence[str], budgets: bool
) -> Iterator[Case]:
    """All rows, model by model."""
    for model in models:
        program = load_program(model, {})
        parse_pipeline("simplify,annotate-structure").run(program)
        for edge in edges:
            parse_pipeline(f"annotate-cost{{edge={edge} cloud=a100}}").run(program)
            for link in links:
                free = plan(program, model, edge, link, 0)
                yield free
                if budgets:
                    paper = next(row for row in free.strategies if row.name == PAPER)
                    yield plan(program, model, edge, link, paper.price.cloud_weight_bytes)


def plan(program: Program, model: str, edge: str, link: str, budget: int) -> Case:
    """One row; a budget of 0 is none."""
    limit = f" cloud-budget={budget}B" if budget else ""
    start = time.perf_counter()
    try:
        parse_pipeline(f"partition{{link={link}{limit}}}").run(program)
    except InfeasibleError as error:
        spent = time.perf_counter() - start
        return Case(model, edge, link, budget, spent, failed=str(error))
    spent, cuts = time.perf_counter() - start, CUTS.get(program)
    return Case(model, edge, link, budget, spent, cuts.strategies, cuts.certificate.gap)


def show(out: Console, found: Sequence[Case]) -> None:
    """A table per pair of devices."""
    names = list(dict.fromkeys(row.name for case in found for row in case.strategies[1:]))
    alone = ("all-edge\nms", "all-cloud\nms")
    columns = ("model", "link", "budget\nGiB", "pass\ns", "gap\n%", "ours\nms", *alone)
    heads = (*columns, *(name.replace("-", "\n") for name in names))
    for edge in dict.fromkeys(case.edge for case in found):
        lines = [line(case, names) for case in found if case.edge == edge]
        out.print(table(f"\n{edge} + a100: latency over ours", heads, lines, left=2))


def line(case: Case, names: Sequence[str]) -> tuple[str, ...]:
    """A row of the table."""
    budget = f"{case.budget / 2**30:.2f}" if case.budget else "-"
    link = case.link.partition(",")[0]
    if not case.strategies:
        none = ("-",) * (2 + len(names))
        return case.model, link, budget, f"{case.seconds:.1f}", "-", "none", *none
    rows = {row.name: row for row in case.strategies}
    cells = (cell(case, rows[name]) if name in rows else "-" for name in names)
    ours = milliseconds(case.strategies[0].price.total_s)
    alone = case.alone("all-edge"), case.alone("all-cloud")
    found = f"{case.seconds:.1f}", f"{case.gap:.1%}".rstrip("%"), ours, *alone
    return case.model, link, budget, *found, *cells


def cell(case: Case, row: Strategy) -> str:
    """A ratio; a star where the cut is not allowed."""
    return f"{case.ratio(row):.2f}" + ("" if row.feasible else "*")


def summary(out: Console, found: Sequence[Case]) -> int:
    """Print how often ours is worse, and the paper's placement; returns how often."""
    others = [(case, row) for case in found for row in case.strategies[1:] if row.feasible]
    worse = [(case, row) for case, row in others if case.over_optimum(row) < 1 - ROUNDING]
    out.print(f"\nan allowed strategy is faster than the optimum in {len(worse)} of {len(others)}")
    for case, row in worse:
        ratio = case.over_optimum(row)
        out.print(f"  {case.model} {case.edge} {case.link} {case.budget}: {row.name} {ratio:.6f}")
    for case in found:
        if case.failed:
            out.print(f"  {case.model} {case.edge} {case.link}: {case.failed}")
    paper = [
        case.ratio(row)
        for case, row in others
        if row.name == PAPER and case.budget and case.model in ("openvla", "cogact")
    ]
    if paper:
        out.print(
            f"with the paper's budget, the paper's placement takes {min(paper):.2f} to "
            f"{max(paper):.2f} times as long as ours ({len(paper)} rows of OpenVLA and CogACT)"
        )
    return len(worse)


if __name__ == "__main__":
    main()
