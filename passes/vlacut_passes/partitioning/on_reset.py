"""Where phases that run on reset go, once the cut of a control step is known.

They take no time in a step, so the search of a step puts them anywhere within the limits on
weights. Of all those places, this takes the one with the shortest first step of an episode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from vlacut.hardware import Link, Side
from vlacut.ir.dataflow import Dataflow
from vlacut.pricing.coding import coded
from vlacut.pricing.cost_graph import CostGraph
from vlacut.pricing.cut import Cut
from vlacut.pricing.price import price
from vlacut_passes.partitioning.limits import Limits
from vlacut_passes.partitioning.pins import pinned
from vlacut_passes.partitioning.solver.search import optimal_cut


def tasks_on_reset(dataflow: Dataflow) -> frozenset[int]:
    """The tasks of phases that run on reset."""
    resets = {index for index, phase in enumerate(dataflow.program.phases) if phase.on_reset}
    return frozenset(task for task, phase in enumerate(dataflow.phases) if phase in resets)


def place_on_reset(
    dataflow: Dataflow,
    graph: CostGraph,
    pins: Mapping[int, Side],
    cut: Cut,
    link: Link,
    limits: Limits,
    effort: float,
) -> Cut:
    """The cut with what runs on reset where the first step is the shortest.

    Args:
        dataflow: of the program.
        graph: of a control step.
        pins: that users ask for.
        cut: of a control step.
        link: it is for.
        limits: those on weights are kept.
        effort: of the search.
    """
    on_reset, free = dataflow.reset_graph(), tasks_on_reset(dataflow)
    if on_reset is None:
        return cut
    tasks = [
        task if index in free else replace(task, pinned=side)
        for index, (task, side) in enumerate(
            zip(pinned(on_reset, pins).tasks, cut.sides, strict=True)
        )
    ]
    weights = Limits(cloud_bytes=limits.cloud_bytes, edge_bytes=limits.edge_bytes)
    held = replace(on_reset, tasks=tuple(tasks))
    sides = optimal_cut(held, link, weights, effort=effort, starts=(cut.sides,)).sides
    return replace(cut, sides=sides, price=price(coded(graph, cut.choices), sides, link))
