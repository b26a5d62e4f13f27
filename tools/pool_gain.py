"""What a pool doubles and gains at the paper's cut of full-size models, over real bandwidth traces.

The cut is RoboECC's (tables II and III): the LLM's layers in the cloud, everything else that holds
weights on the edge, and what holds none where it is cheapest. The pool is chosen over all traces
of a folder together; the rows below it are the same pool over each of the folder's subfolders.
`alone` is the paper's cut, `single` the best one of the pool's variants without switching; means
over time, outages counted as 10 kB/s, then the price at the median bandwidth.

    python tools/pool_gain.py TRACES [--models openvla cogact] [--pools block portfolio:400MB]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vlacut import registry
from vlacut.cli.show.output import console, milliseconds, size, table
from vlacut.hardware import Bandwidths, Link, Side, parse_bandwidths, parse_link
from vlacut.ir.annotation import CUTS, STRUCTURE, Asked, Cuts
from vlacut.ir.dataflow import Dataflow, trace_dataflow
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Program
from vlacut.pricing.cost_graph import CostGraph
from vlacut_passes.alternatives import AddAlternatives
from vlacut_passes.partitioning.solver.search import optimal_cut
from vlacut_passes.pool.candidate import make_candidate

_CONSTANT_BYTES = 1024  # smaller weights are constants
_COLUMNS = (
    "alone ms", "single ms", "pool ms", "alone / pool", "single / pool", "median alone", "pool",
)  # fmt: skip


def main() -> None:
    """Print a table per model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("traces", type=Path)
    parser.add_argument("--models", nargs="+", default=["openvla", "cogact"])
    parser.add_argument(
        "--pools", nargs="+", default=["block", "portfolio:400MB", "portfolio:14GB"]
    )
    parser.add_argument("--edge", default="jetson-agx-orin")
    parser.add_argument("--cloud", default="a100")
    parser.add_argument("--link", default="10MB/s,20ms")
    chosen = parser.parse_args()
    folders = [chosen.traces, *sorted(path for path in chosen.traces.iterdir() if path.is_dir())]
    over = {folder: parse_bandwidths(str(folder)) for folder in folders}
    for name in chosen.models:
        model, _, preset = name.partition(":")
        program = registry.load("models", model)(preset or "full")
        passes = f"annotate-cost{{edge={chosen.edge} cloud={chosen.cloud}}}"
        parse_pipeline(f"simplify,annotate-structure,{passes}").run(program)
        dataflow = trace_dataflow(program)
        place(dataflow, parse_link(chosen.link))
        for pool in chosen.pools:
            report(name, dataflow, pool, chosen.link, over)


def place(dataflow: Dataflow, link: Link) -> None:
    """Write the paper's cut on the program."""
    graph = dataflow.cost_graph()
    pins = [_pin(dataflow, graph, index) for index in range(len(graph.tasks))]
    tasks = tuple(replace(task, pinned=pin) for task, pin in zip(graph.tasks, pins, strict=True))
    found = optimal_cut(replace(graph, tasks=tasks), link)
    cuts = Cuts(asked=Asked(link=link), chosen=found.cut, certificate=found.certificate("latency"))
    CUTS.put(dataflow.program, cuts)


def _pin(dataflow: Dataflow, graph: CostGraph, index: int) -> Side | None:
    node, task = dataflow.nodes[index], graph.tasks[index]
    if node is None:
        return task.pinned
    place = STRUCTURE.get(node)
    if place.stage == "backbone" and place.block.rpartition(".")[2].isdigit():
        return Side.CLOUD
    held = any(graph.weights[weight] >= _CONSTANT_BYTES for weight in task.weights)
    return Side.EDGE if held else None


def report(
    name: str, dataflow: Dataflow, pool: str, link: str, over: dict[Path, Bandwidths]
) -> None:
    """Choose the pool, and print what it doubles and gains."""
    program: Program = dataflow.program
    start = time.perf_counter()
    folder = next(iter(over))
    AddAlternatives(pool=pool, bandwidth=str(folder)).run(program)
    took = time.perf_counter() - start
    found, graph = CUTS.get(program), dataflow.cost_graph()
    made = [make_candidate(graph, cut, found.asked.link) for cut in found.variants]
    total = sum(graph.weights)
    out = console()
    out.print(
        f"\n{name}, {pool}, {link}: weights {size(total)}, doubled "
        f"{size(found.pool.doubled_bytes)} ({found.pool.doubled_bytes / total:.2%}), "
        f"chosen in {took:.1f} s"
    )
    variants = [(one.cut.name, milliseconds(one.fixed_s), size(one.moved)) for one in made]
    out.print(table("", ("variant", "ms without transfers", "moved"), variants))
    rows = []
    for path, bandwidths in over.items():
        lines = np.array([one.at(np.array(bandwidths.seconds_per_byte)) for one in made])
        rows.append((path.name, *_row(lines, np.array(bandwidths.shares))))
    out.print(table("", ("traces", *_COLUMNS), rows))


def _row(lines: np.ndarray, shares: np.ndarray) -> Sequence[str]:
    alone, single = float(lines[0] @ shares), float((lines @ shares).min())
    pooled = float(lines.min(axis=0) @ shares)
    middle = int(np.searchsorted(np.cumsum(shares), 0.5))
    medians = (float(lines[0, middle]), float(lines[:, middle].min()))
    times = [milliseconds(seconds) for seconds in (alone, single, pooled)]
    ratios = (f"{alone / pooled:.3f}", f"{single / pooled:.3f}")
    return (*times, *ratios, *map(milliseconds, medians))


if __name__ == "__main__":
    main()
