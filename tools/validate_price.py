"""The price of a cut against the step it prices: tiny models, on loopback over an emulated link.

    python tools/validate_price.py [--models vit-mlp openvla ...] [--rtt 10] [--steps 15]

Every model is compiled to several cuts; each is served on loopback and driven over emulated links
of 1, 10 and 100 MB/s, a step on each in turn. The prediction is `vlacut.pricing.price.price` of the
cut at that link with what is not the link's given, as medians of the same run: the times of engines
and codecs, from the step reports, and what a hop takes beyond them over an emulator without rate or
delay, where a step is driven in turn with the others. So what is tested is the link in the price:
bytes over bandwidth, and hops. The exit status is 1 if a row's measured median is not within 10 %
of it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import track

import vlacut
from vlacut import registry
from vlacut.cli.show.output import milliseconds, rate, size, table
from vlacut.compiler.driver import compile_program
from vlacut.compiler.target import Target
from vlacut.compiler.target_pipeline import pipeline_for
from vlacut.emulation import EmulatedLink, shape_of
from vlacut.frontends.load import load_program
from vlacut.hardware import Link, Side
from vlacut.ir.annotation import CUTS
from vlacut.ir.dataflow import trace_dataflow
from vlacut.pricing.coding import coded
from vlacut.pricing.cost_graph import CostGraph
from vlacut.pricing.price import Price, price
from vlacut.runtime.edge.report import StepReport
from vlacut.runtime.wire.sockets import parse_address

MODELS = registry.names("models")
STRATEGIES = ("all-cloud", "backbone-in-cloud", "fixed-half")
FREE = Link(1e12, 1e12)
RATES = (1e6, 10e6, 100e6)
WARM_UP = 2
WITHIN = 0.10


@dataclass(frozen=True)
class Row:
    """A cut over a link: predicted, and measured step by step, in seconds; a hop's overhead."""

    model: str
    cut: str
    link: Link
    overhead_s: float
    predicted: Price
    steps: tuple[float, ...]

    @property
    def error(self) -> float:
        """Predicted over the measured median, less one."""
        return self.predicted.total_s / statistics.median(self.steps) - 1


def main() -> None:
    """Run, print a row per cut and link."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--cuts", nargs="+", default=STRATEGIES)
    parser.add_argument("--codecs", default="", help="then all-cloud-coded is driven too")
    parser.add_argument("--rtt", type=float, default=10.0, help="milliseconds")
    parser.add_argument("--steps", type=int, default=15)
    asked = parser.parse_args()
    links = [Link(up, up, asked.rtt / 1e3) for up in RATES]
    cuts = (*asked.cuts, *(["all-cloud-coded"] if asked.codecs else []))
    cases = [(model, cut) for model in asked.models for cut in cuts]
    rows = [
        row
        for case in track(cases, "measure", console=Console(stderr=True))
        for row in measure(*case, links, asked.steps, asked.codecs)
    ]
    out = Console(width=100, highlight=False)
    times = ("a hop", "engines", "predicted", "measured")
    columns = ("model", "cut", "link", "hops", "moved", *times, "error")
    title = f"Milliseconds per control step, median of {asked.steps}, round trip {asked.rtt:g} ms"
    out.print(table(title, columns, [line(row) for row in rows], left=2))
    off = [row for row in rows if abs(row.error) > WITHIN]
    worst = max(abs(row.error) for row in rows)
    out.print(f"\n{len(rows) - len(off)} of {len(rows)} within 10 %; the worst is {worst:.1%} off")
    sys.exit(1 if off else 0)


def line(row: Row) -> tuple[str, ...]:
    """A row of the table."""
    found = row.predicted
    return (
        row.model,
        row.cut,
        rate(row.link.up),
        str(found.hops),
        size(found.bytes_up + found.bytes_down),
        milliseconds(row.overhead_s),
        milliseconds(found.edge_s + found.cloud_s),
        milliseconds(found.total_s),
        milliseconds(statistics.median(row.steps)),
        f"{row.error:+.1%}",
    )


def measure(
    model: str, cut: str, links: Sequence[Link], steps: int, codecs: str = ""
) -> Iterator[Row]:
    """Compile a tiny model to a cut and run it over every link."""
    program = load_program(f"{model}:tiny", {})
    target = Target("jetson-agx-orin", "a100", "10MB/s,20ms", codecs=codecs)
    text = pipeline_for(target).removesuffix("}") + f" strategy={cut}}}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundle"
        compile_program(program, target, path, pipeline=text)
        dataflow = trace_dataflow(program)
        chosen = CUTS.get(program).chosen
        graph, sides = coded(dataflow.cost_graph(), chosen.choices), chosen.sides
        free, *others = drive(path, [FREE, *links], steps)
        hops = price(graph, sides, links[0]).hops
        overhead_s = statistics.median(report.network_s for report in free) / hops
        for link, reports in zip(links, others, strict=True):
            given = with_times(graph, sides, reports)
            slower = replace(link, rtt=link.rtt + 2 * overhead_s)
            spent = tuple(report.latency_s for report in reports)
            predicted = with_codecs(price(given, sides, slower), reports)
            yield Row(model, cut, link, overhead_s, predicted, spent)


def drive(path: Path, links: Sequence[Link], steps: int) -> list[list[StepReport]]:
    """Serve a bundle and drive it over all links, a step on each in turn; reports by link."""
    words = [sys.executable, "-m", "vlacut", "serve", str(path), "--port", "0", "--json"]
    reports: list[list[StepReport]] = [[] for _ in links]
    with (
        subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as cloud,
        ExitStack() as stack,
    ):
        stack.callback(cloud.terminate)
        assert cloud.stdout is not None
        server = parse_address(json.loads(cloud.stdout.readline())["address"])
        shaped = [stack.enter_context(EmulatedLink(server, shape_of(link))) for link in links]
        robots = [
            stack.enter_context(vlacut.connect(path, "{}:{}".format(*one.address)))
            for one in shaped
        ]
        observation = robots[0].bundle.golden("observation")
        for step in range(WARM_UP + steps):
            for robot, kept in zip(robots, reports, strict=True):
                robot.step(observation)
                if step >= WARM_UP:
                    kept.append(robot.last)
    return reports


def with_codecs(found: Price, reports: Sequence[StepReport]) -> Price:
    """The price with the median time of codecs a step, as it was measured."""
    return replace(
        found,
        edge_codec_s=statistics.median(report.edge_codec_s for report in reports),
        cloud_codec_s=statistics.median(report.cloud_codec_s for report in reports),
    )


def with_times(graph: CostGraph, sides: Sequence[Side], reports: Sequence[StepReport]) -> CostGraph:
    """The graph with the engines' median times a step in place of the cost model's.

    What a side computes is scaled as a whole: so sections in which both do keep their shares.
    """
    spent = {
        Side.EDGE: statistics.median(sum(report.edge_s.values()) for report in reports),
        Side.CLOUD: statistics.median(sum(report.cloud_s.values()) for report in reports),
    }
    priced = price(graph, sides, FREE)
    scale = {
        Side.EDGE: spent[Side.EDGE] / (priced.edge_s or 1.0),
        Side.CLOUD: spent[Side.CLOUD] / (priced.cloud_s or 1.0),
    }
    tasks = (
        replace(
            task,
            edge_s=task.edge_s * scale[Side.EDGE],
            cloud_s=task.cloud_s * scale[Side.CLOUD],
        )
        for task in graph.tasks
    )
    return replace(graph, tasks=tuple(tasks))


if __name__ == "__main__":
    main()
