"""partition: decides which side every operator is on, exactly, beside the ways others decide."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from vlacut.errors import InfeasibleError, InputError, PassError
from vlacut.hardware import parse_bytes, parse_link, parse_seconds
from vlacut.ir.annotation import CUTS, MACHINES, Asked, Cuts, Machines
from vlacut.ir.dataflow import Dataflow, trace_dataflow
from vlacut.ir.program import Program
from vlacut.pricing.coding import COVERAGE, SECONDS, joules
from vlacut.pricing.cost_graph import CostGraph
from vlacut.pricing.cut import Cut
from vlacut_passes.partitioning.coded import (
    Best,
    Codecs,
    all_cloud_coded,
    offered_codecs,
    parse_action_error,
)
from vlacut_passes.partitioning.limits import Limits, Quantity, limited, measured
from vlacut_passes.partitioning.on_reset import place_on_reset
from vlacut_passes.partitioning.pins import SEPARATOR, find_pins, pinned, split_items
from vlacut_passes.partitioning.simpler import Complexity, simpler_cut
from vlacut_passes.partitioning.solver.search import MOST, Found, optimal_cut
from vlacut_passes.partitioning.strategies import (
    ALL_CLOUD_CODED,
    BACKBONE_IN_CLOUD,
    BASELINES,
    baselines,
    program_cuts,
    strategy_cut,
)

_KNOWN = ("optimal", *BASELINES, BACKBONE_IN_CLOUD, ALL_CLOUD_CODED)

_OBJECTIVES = {
    "latency": Quantity.LATENCY,
    "cloud-time": Quantity.CLOUD_TIME,
    "energy": Quantity.ENERGY,
}


@dataclass(frozen=True)
class Partition:
    """Writes CUTS on the program: what was asked, the cut to carry out, those of the other
    strategies, and the optimum's certificate.

    Attributes:
        link: see `vlacut.hardware.link`.
        cloud_budget: most bytes of distinct weights in the cloud, e.g. `12.1GB`; empty: what the
            device that `annotate-cost` was told has, less its reserve.
        edge_memory: the same of the edge.
        cloud_time: most compute in the cloud, per control step, e.g. `20ms`; empty: no limit.
        deadline: most latency of a control step; empty: no limit.
        minimise: `latency`, `cloud-time` (how many robots one GPU carries), or `energy` of the
            edge, see `vlacut.hardware.power`.
        pins: operators that must be on a side, see `partitioning.pins`.
        private: inputs that must not leave the edge as they are, see `partitioning.pins`.
        max_action_error: the most that codecs may move the action, see `vlacut.pricing.coding`;
            empty: no limit. Needs `annotate-codecs`.
        calibration: file or folder of observations (`vlacut.tensor.observations`) that bound what
            codecs do to the action on fresh ones; empty: no bound. Needs `annotate-codecs`.
        coverage: of that bound, above 0 and below 1.
        effort: after how much work the best cut known is taken, with its gap; see
            `partitioning.effort`.
        simpler: the share of the optimum that a simpler cut may cost more and is taken, see
            `partitioning.simpler`; 0 for the optimum itself.
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
    calibration: str = ""
    coverage: float = COVERAGE
    effort: float = MOST
    simpler: float = 0.01
    strategy: str = "optimal"

    def run(self, program: Program) -> None:
        """See `vlacut.ir.pipeline.Pass`."""
        if self.strategy not in _KNOWN:
            raise PassError(
                f"partition has no strategy {self.strategy!r}; it has {', '.join(_KNOWN)}"
            )
        if not 0 <= self.simpler < 1:
            raise InputError(f"simpler={self.simpler:g}: write a share of the optimum: 0.01")
        if not 0 < self.coverage < 1:
            raise InputError(f"coverage={self.coverage:g}: write a share of observations: 0.95")
        machines = MACHINES.find(program)
        limits = self.limits(machines)
        dataflow = trace_dataflow(program)
        asked = Asked(
            link=parse_link(self.link),
            pins=find_pins(dataflow, self.pins, self.private),
            cloud_s=math.inf if limits.cloud_time is None else limits.cloud_time,
            action_error=parse_action_error(self.max_action_error),
            calibration=self.calibration,
            coverage=self.coverage,
        )
        search = _Search(dataflow, asked, limits, self.effort)
        power = search.graph.power if limits.minimise is Quantity.ENERGY else None
        worth = joules(power) if power else SECONDS
        with offered_codecs(dataflow, asked, worth) as codecs:
            while True:
                best, cuts, chosen, why = self._chosen(search, codecs)
                chosen = codecs.bounded(chosen)
                if codecs.bears(chosen):
                    break
                codecs.tighten(chosen)
        certificate = replace(best.found.certificate(self.minimise), simpler=why)
        if self.strategy == "optimal":
            given = search.graph, asked.pins, chosen, asked.link, limits, self.effort
            chosen = place_on_reset(dataflow, *given)
        CUTS.put(
            program,
            Cuts(
                asked=asked,
                chosen=chosen,
                certificate=replace(certificate, method=certificate.method + codecs.note),
                others=tuple(cut for cut in cuts.values() if cut.name != chosen.name),
            ),
        )

    def _chosen(self, search: _Search, codecs: Codecs) -> tuple[Best, dict[str, Cut], Cut, str]:
        """The best cut, every strategy's by name, the one to carry out, and, where that is one
        that is simpler than the optimum, why.
        """
        try:
            best = codecs.best(search.graph, search.asked.link, search.best)
        except InfeasibleError as error:
            raise InfeasibleError(f"{error}{self._binding_pins(search, codecs)}") from error
        cuts = {cut.name: cut for cut in search.cuts(best, codecs)}
        if self.strategy not in cuts:
            raise PassError(
                f"strategy {self.strategy} needs annotate-structure, and no pin against it"
                if self.strategy == BACKBONE_IN_CLOUD
                else f"strategy {self.strategy} needs annotate-codecs, and a codec that pays"
            )
        chosen = cuts[self.strategy]
        if not chosen.feasible:
            raise InfeasibleError(f"strategy {chosen.name}: {chosen.why_not}")
        taken = self._taken(search, best, codecs)
        return (best, cuts, chosen, "") if taken is None else (best, cuts, *taken)

    def _taken(self, search: _Search, best: Best, codecs: Codecs) -> tuple[Cut, str] | None:
        """A cut that is simpler than the optimum and may be taken for it, and why."""
        if self.strategy != "optimal" or not (self.simpler and best.found.value):
            return None
        found = search.simpler(best, codecs, self.simpler)
        if found is None:
            return None
        cut, its, optimal = found
        more = measured(cut.price)[search.limits.minimise] - best.found.value
        text = f"{search.limits.minimise.text(more)} more, {more / best.found.value:.2%}"
        return cut, f"{its}, for {optimal} of optimal: {text}"

    def _binding_pins(self, search: _Search, codecs: Codecs) -> str:
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
                search.best(codecs.coded(search.pinned_by(pins, private), search.asked.link))
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


class _Search:
    """The search over the cuts of a program, as it was asked for.

    Attributes:
        asked: what every cut keeps.
        graph: of the program, with its pins.
        limits: what is minimised, and what every cut keeps.
    """

    def __init__(self, dataflow: Dataflow, asked: Asked, limits: Limits, effort: float) -> None:
        self.asked = asked
        self.graph = pinned(dataflow.cost_graph(), asked.pins)
        self._dataflow = dataflow
        self.limits = limits
        self._effort = effort
        self._simple = baselines(self.graph, asked.link, limits.cloud_bytes)
        self._of_program = list(program_cuts(dataflow, self.graph, asked.link, limits))
        backbone = (cut.sides for cut in self._of_program if cut.name == BACKBONE_IN_CLOUD)
        self._starts = [*self._simple.values(), *backbone]

    def best(self, coded: CostGraph) -> Found:
        """The best cut of a coded graph of the program."""
        return optimal_cut(
            coded, self.asked.link, self.limits, effort=self._effort, starts=self._starts
        )

    def simpler(
        self, best: Best, codecs: Codecs, share: float
    ) -> tuple[Cut, Complexity, Complexity] | None:
        """See `simpler_cut`."""

        def kept(cut: Cut) -> Cut | None:
            known = codecs.measured(cut)
            return known if codecs.keeps(known) else None

        others = [*self._simple.values(), *(cut.sides for cut in self._of_program)]
        return simpler_cut(
            best.graph, self.asked.link, self.limits, best.found.sides, others, share, kept
        )

    def pinned_by(self, pins: str, private: str) -> CostGraph:
        """The graph of the program with other pins."""
        return pinned(self._dataflow.cost_graph(), find_pins(self._dataflow, pins, private))

    def cuts(self, best: Best, codecs: Codecs) -> Iterator[Cut]:
        """Every strategy's cut, the optimum first.

        The optimum is of the coded graph; most of the others send their tensors as they are.
        """
        yield best.found.cut
        for name, sides in self._simple.items():
            yield strategy_cut(name, self.graph, sides, self.asked.link, self.limits)
        yield from self._of_program
        yield from all_cloud_coded(best.graph, codecs, self.asked.link, self.limits)
