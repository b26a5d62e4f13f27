"""The ledger: every placement that the pool considered, what it costs, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vlacut.hardware import Bandwidths, Side
from vlacut.ir.dataflow import Dataflow
from vlacut.ir.graphs import value_spec
from vlacut.plans.pool import Considered, Crossing, Fate
from vlacut.pricing.cost_graph import CostGraph
from vlacut.pricing.cut import Sides
from vlacut.tensor import TensorSpec
from vlacut.tensor.numerics import Floats
from vlacut_passes.pool.candidate import Candidate, as_good, doubled_bytes


@dataclass(frozen=True)
class Ledger:
    """Says of every candidate why it is in the pool or not.

    Attributes:
        dataflow: of the program.
        graph: its costs.
        bandwidths: that the pool is chosen for.
        chosen: the chosen cut.
        room: bytes of weights that may be doubled.
    """

    dataflow: Dataflow
    graph: CostGraph
    bandwidths: Bandwidths
    chosen: Candidate
    room: int

    def entries(
        self,
        origins: Mapping[Sides, str],
        others: Sequence[Candidate],
        good: Sequence[Candidate],
        kept: Mapping[str, Candidate],
    ) -> Iterator[Considered]:
        """An entry per candidate, the chosen cut's first.

        Args:
            origins: where each placement comes from.
            others: the candidates, without the chosen cut.
            good: those that fit and are not dominated.
            kept: those in the pool, by the name of their variant.
        """
        specs = _specs(self.dataflow)
        for one in (self.chosen, *others):
            fate, why = self._fate(one, good, kept, origins)
            cost = one.cut.price
            yield Considered(
                origin=_origin(one, origins),
                crossings=tuple(self._crossings(one.sides, specs)),
                bytes_up=cost.bytes_up,
                bytes_down=cost.bytes_down,
                hops=cost.hops,
                compute_s=cost.local_s,
                latency_s=cost.total_s,
                doubled_bytes=doubled_bytes(self.graph, self.chosen, [one]),
                fate=fate,
                why=why,
            )

    def _fate(
        self,
        one: Candidate,
        good: Sequence[Candidate],
        kept: Mapping[str, Candidate],
        origins: Mapping[Sides, str],
    ) -> tuple[Fate, str]:
        if one is self.chosen:
            return Fate.CHOSEN, "the first variant"
        for name, other in kept.items():
            if other is one:
                return Fate.KEPT, name
        nbytes = doubled_bytes(self.graph, self.chosen, [one])
        if nbytes > self.room:
            return Fate.TOO_LARGE, f"room is for {self.room / 1e6:.3g} MB"
        points = np.array(self.bandwidths.seconds_per_byte)
        for better in (self.chosen, *good):
            if better is not one and as_good(better, one, self.chosen, points):
                return Fate.DOMINATED, f"by {_origin(better, origins)}"
        return Fate.DROPPED, self._behind(one, [self.chosen, *kept.values()], points)

    def _behind(self, one: Candidate, pool: Sequence[Candidate], points: Floats) -> str:
        """Why a candidate that nothing dominates is left out."""
        gain = np.min([each.at(points) for each in pool], axis=0) - one.at(points)
        best = int(np.argmax(gain))
        if gain[best] <= 0:
            return f"{-gain[best] * 1e3:.3g} ms behind those kept at least, at any bandwidth"
        rate = 1e-6 / points[best]
        return f"{gain[best] * 1e3:.3g} ms better at {rate:.3g} MB/s, where others pay more"

    def _crossings(self, sides: Sides, specs: Mapping[str, TensorSpec]) -> Iterator[Crossing]:
        found: dict[tuple[str, Side], None] = {}
        for flow in self.graph.flows:
            home = sides[flow.producer]
            if any(sides[consumer] is not home for consumer in flow.consumers):
                found[flow.name, home] = None
        for key, home in found:
            yield Crossing(key, specs[key].dtype, specs[key].shape, home is Side.EDGE)


def _origin(one: Candidate, origins: Mapping[Sides, str]) -> str:
    """Where its placement comes from, with the codecs that tell it from others of the same."""
    codecs = sorted({str(crossing.codec) for crossing in one.cut.crossings})
    return origins[one.sides] + (f", {' and '.join(codecs)}" if codecs else "")


def _specs(dataflow: Dataflow) -> dict[str, TensorSpec]:
    """Spec of every key."""
    specs = {spec.name: spec for spec in dataflow.program.inputs}
    for phase in dataflow.program.phases:
        for node in phase.model.graph:
            for value in node.outputs:
                if value.dtype is not None and value.shape is not None:
                    specs[f"{phase.name}/{value.name}"] = value_spec(value)
    return specs
