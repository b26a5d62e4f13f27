"""partition: decides which side every operator is on, exactly, beside the ways others decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from vlacut.errors import InfeasibleError, InputError, PassError
from vlacut.hardware import Link, parse_bytes, parse_link, parse_seconds
from vlacut.ir.annotation import CERTIFICATE, CODED, MACHINES, SIDE, STRATEGIES, Machines
from vlacut.ir.dataflow import Dataflow, trace_dataflow
from vlacut.ir.program import Program
from vlacut.pricing.coding import NOT_CODED, SECONDS, joules
from vlacut.pricing.cost_graph import CostGraph
from vlacut.pricing.price import Certificate
from vlacut_passes.partitioning.coded import Best, all_cloud_coded, offered_codecs
from vlacut_passes.partitioning.limits import Limits, Quantity, limited
from vlacut_passes.partitioning.pins import SEPARATOR, pinned, split_items
from vlacut_passes.partitioning.solver.search import MOST, Found, optimal_cut
from vlacut_passes.partitioning.strategies import (
    ALL_CLOUD_CODED,
    BACKBONE_IN_CLOUD,
    BASELINES,
    Row,
    Sides,
    baselines,
    program_rows,
    strategy_row,
)

_KNOWN = ("optimal", *BASELINES, BACKBONE_IN_CLOUD, ALL_CLOUD_CODED)

_OBJECTIVES = {
    "latency": Quantity.LATENCY,
    "cloud-time": Quantity.CLOUD_TIME,
    "energy": Quantity.ENERGY,
}


@dataclass(frozen=True)
class Partition:
    """Writes SIDE on every operator, and on the program STRATEGIES, the chosen one first, and the
    optimum's CERTIFICATE.

    Attributes:
        link: see `vlacut.hardware.link`.
        cloud_budget: most bytes of distinct weights in the cloud, e.g. `12.1GB`; empty: what the
            device that `annotate-cost` was told has, less its reserve.
        edge_memory: the same of the edge.
        cloud_time: most compute in the cloud, a control step, e.g. `20ms`; empty: no limit.
        deadline: most latency of a control step; empty: no limit.
        minimise: `latency`, `cloud-time` (how many robots one GPU carries), or `energy` of the
            edge, see `vlacut.hardware.power`.
        pins: operators that must be on a side, see `partitioning.pins`.
        private: inputs that must not leave the edge as they are, see `partitioning.pins`.
        max_action_error: the most that codecs may move the action, see `vlacut.pricing.coding`;
            empty: no limit. Needs `annotate-codecs`.
        effort: after how much work the best cut known is taken, with its gap; see
            `partitioning.effort`.
        strategy: `optimal`, or the name of another strategy to carry out instead.

    Raises InfeasibleError if no cut keeps the limits, or the strategy asked for does not: which one
    and by how much; InputError if a pin does not parse or matches nothing.
    """

    name: ClassVar[str] = "partition"
    choices: ClassVar[Mapping[str, Sequence[str]]] = {
        "strategy": _KNOWN,
        "minimise": tuple(_OBJECTIVES),
    }
    link: str = "10MB/s,20ms"
    cloud_budget: str = ""
    edge_memory: str = ""
    cloud_time: str = ""
    deadline: str = ""
    minimise: str = "latency"
    pins: str = ""
    private: str = ""
    max_action_error: str = ""
    effort: float = MOST
    strategy: str = "optimal"

    def run(self, program: Program) -> None:
        """See `vlacut.ir.pipeline.Pass`."""
        if self.strategy not in _KNOWN:
            raise PassError(
                f"partition has no strategy {self.strategy!r}; it has {', '.join(_KNOWN)}"
            )
        machines = MACHINES.find(program)
        link, limits = parse_link(self.link), self.limits(machines)
        dataflow = trace_dataflow(program)
        graph = pinned(dataflow.cost_graph(), dataflow, self.pins, self.private)
        others = dict(program_rows(dataflow, graph, link, limits))
        simple = baselines(graph, link, limits.cloud_bytes)
        starts = list(simple.values())
        if BACKBONE_IN_CLOUD in others:
            starts.append(others[BACKBONE_IN_CLOUD][1])
        power = graph.power if limits.minimise is Quantity.ENERGY else None
        worth = joules(power) if power else SECONDS
        with offered_codecs(dataflow, link, self.max_action_error, worth) as codecs:

            def search(coded: CostGraph) -> Found:
                return optimal_cut(coded, link, limits, effort=self.effort, starts=starts)

            try:
                best = codecs.best(graph, link, search)
            except InfeasibleError as error:
                binding = self._binding_pins(
                    dataflow, lambda free: search(codecs.coded(free, link))
                )
                raise InfeasibleError(f"{error}{binding}") from error
            codings = {"optimal": best.cut}
            cuts = all_cuts(graph, simple, best, link, limits) | others
            for row, coding in all_cloud_coded(best.graph, codecs, link, limits):
                cuts[ALL_CLOUD_CODED], codings[ALL_CLOUD_CODED] = row, coding
        if self.strategy not in cuts:
            raise PassError(
                f"strategy {self.strategy} needs annotate-structure, and no pin against it"
                if self.strategy == BACKBONE_IN_CLOUD
                else f"strategy {self.strategy} needs annotate-codecs, and a codec that pays"
            )
        chosen, sides = cuts.pop(self.strategy)
        if not chosen.feasible:
            raise InfeasibleError(f"strategy {chosen.name}: {chosen.why_not}")
        STRATEGIES.put(program, (chosen, *(strategy for strategy, _ in cuts.values())))
        CODED.put(program, (codings.get(self.strategy, NOT_CODED),))
        found = best.found
        method = found.method + codecs.note
        certificate = Certificate(self.minimise, found.value, found.bound, method)
        CERTIFICATE.put(program, certificate)
        for node, side in zip(dataflow.nodes, sides, strict=True):
            if node is not None:
                SIDE.put(node, side)

    def _binding_pins(self, dataflow: Dataflow, search: Callable[[CostGraph], Found]) -> str:
        """Which pins and private inputs no cut within the limits keeps; empty if they do not bind.

        One after the other is dropped as long as what is left still cannot be kept.
        """
        asked = [("pins", one) for one in split_items(self.pins)]
        asked += [("private", one) for one in split_items(self.private)]

        def possible(kept: Sequence[tuple[str, str]]) -> bool:
            pins, private = (
                SEPARATOR.join(one for kind, one in kept if kind == name)
                for name in ("pins", "private")
            )
            try:
                search(pinned(dataflow.cost_graph(), dataflow, pins, private))
            except InfeasibleError:
                return False
            return True

        if not asked or not possible([]):
            return ""
        for one in tuple(asked):
            rest = [other for other in asked if other != one]
            if rest and not possible(rest):
                asked = rest
        names = ", ".join(f"{'pin' if kind == 'pins' else kind} {one}" for kind, one in asked)
        return f"; it can be kept without {names}"

    def limits(self, machines: Machines | None = None) -> Limits:
        """What the options ask for, on these machines."""
        if self.minimise not in _OBJECTIVES:
            known = ", ".join(_OBJECTIVES)
            raise PassError(f"partition cannot minimise {self.minimise!r}; it can {known}")
        if self.minimise == "energy" and machines and machines.edge.power is None:
            raise InputError(
                f"{machines.edge.name}: its profile does not say what it draws in this mode, so "
                f"no cut is known to take the least energy; give it [power], or take another @mode"
            )
        limits = Limits(
            _OBJECTIVES[self.minimise],
            parse_seconds(self.deadline) if self.deadline else None,
            parse_seconds(self.cloud_time) if self.cloud_time else None,
            parse_bytes(self.cloud_budget) if self.cloud_budget else None,
            parse_bytes(self.edge_memory) if self.edge_memory else None,
        )
        return _within_memory(limits, machines) if machines else limits


def _within_memory(limits: Limits, machines: Machines) -> Limits:
    """The limits with what the machines have where users said nothing."""
    notes = {}
    for quantity, device in (
        (Quantity.CLOUD_BYTES, machines.cloud),
        (Quantity.EDGE_BYTES, machines.edge),
    ):
        if limits.most[quantity] is None:
            limits = limited(limits, quantity, device.weight_bytes)
            notes[quantity] = (
                f"{device.name} has {device.memory_bytes / 1e9:.4g} GB, of which "
                f"{device.reserve_bytes / 1e9:.4g} GB are kept for the system and activations"
            )
    return replace(limits, notes=notes)


def all_cuts(
    graph: CostGraph, simple: Mapping[str, Sides], best: Best, link: Link, limits: Limits
) -> dict[str, Row]:
    """Every strategy's row in the report, and its cut, by name, the optimum first.

    The optimum is of the coded graph; the others send their tensors as they are.
    """
    found = best.found
    optimal = strategy_row("optimal", best.graph, found.sides, link, limits)
    rows = {
        name: (strategy_row(name, graph, sides, link, limits), sides)
        for name, sides in simple.items()
    }
    return {"optimal": (optimal, found.sides), **rows}
