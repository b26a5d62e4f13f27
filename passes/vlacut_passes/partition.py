"""partition: decides which side every operator is on, exactly, beside the ways others decide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vlacut.annotation import SIDE, STRATEGIES
from vlacut.dataflow import trace_dataflow
from vlacut.errors import InfeasibleError, PassError
from vlacut.hardware import Link, parse_bytes, parse_link
from vlacut.pricing import CostGraph, Side, Strategy
from vlacut.program import Program
from vlacut_passes.partitioning.search import optimal_cut
from vlacut_passes.partitioning.strategies import (
    BACKBONE_IN_CLOUD,
    BASELINES,
    program_rows,
    strategy_row,
)

_KNOWN = ("optimal", *BASELINES, BACKBONE_IN_CLOUD)


@dataclass(frozen=True)
class Partition:
    """Writes SIDE on every operator, and STRATEGIES on the program, the chosen one first.

    Attributes:
        link: see `vlacut.hardware.link`.
        cloud_budget: most bytes of weights in the cloud, e.g. `12.1GB`; empty for no limit.
        strategy: `optimal`, or the name of another strategy to carry out instead.

    Raises InfeasibleError if the strategy asked for breaks the budget, saying by how much.
    """

    name: ClassVar[str] = "partition"
    link: str = "10MB/s,20ms"
    cloud_budget: str = ""
    strategy: str = "optimal"

    def run(self, program: Program) -> None:
        """See `vlacut.pipeline.Pass`."""
        if self.strategy not in _KNOWN:
            raise PassError(
                f"partition has no strategy {self.strategy!r}; it has {', '.join(_KNOWN)}"
            )
        link = parse_link(self.link)
        budget = parse_bytes(self.cloud_budget) if self.cloud_budget else None
        flow = trace_dataflow(program)
        graph = flow.cost_graph()
        cuts = all_cuts(graph, link, budget)
        cuts |= program_rows(flow, graph, link, budget)
        if self.strategy not in cuts:
            raise PassError(
                f"strategy {self.strategy} needs annotate-structure, and no pin against it"
            )
        chosen, sides = cuts.pop(self.strategy)
        if not chosen.feasible:
            raise InfeasibleError(f"strategy {chosen.name}: {chosen.why_not}")
        STRATEGIES.put(program, (chosen, *(strategy for strategy, _ in cuts.values())))
        for node, side in zip(flow.nodes, sides, strict=True):
            if node is not None:
                SIDE.put(node, side)


def all_cuts(
    graph: CostGraph, link: Link, budget: int | None
) -> dict[str, tuple[Strategy, tuple[Side, ...]]]:
    """Every strategy's row in the report, and its cut, by name, the optimum first."""
    cuts = {"optimal": optimal_cut(graph, link, budget).sides}
    cuts |= {name: cut(graph, link, budget) for name, cut in BASELINES.items()}
    return {
        name: (strategy_row(name, graph, sides, link, budget), sides)
        for name, sides in cuts.items()
    }
