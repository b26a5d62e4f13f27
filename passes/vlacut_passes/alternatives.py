"""alternatives: placements beside the chosen cut, for other bandwidths than it was chosen for.

The candidates are all frontiers in the boundary blocks of the chosen cut (`pool.frontiers`), and
the placements that the exact search finds, there or anywhere, at several bandwidths
(`pool.candidates`). Dominated candidates are dropped. Of the others, the pool keeps those that make
a step fastest in expectation, within the room for doubled weights (`pool.selection`). All prices
are those of `vlacut.pricing.price`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from vlacut.errors import InputError
from vlacut.hardware import Bandwidths, Side, parse_bandwidths, parse_bytes
from vlacut.ir.annotation import CUTS, Cuts
from vlacut.ir.dataflow import Dataflow, cuts_of, trace_dataflow
from vlacut.ir.program import Program
from vlacut.plans.plan import CHOSEN
from vlacut.plans.pool import FORMS, SEGMENTS, Considered, Pool
from vlacut.pricing.coding import CodedCrossing, coded_crossings
from vlacut.pricing.cut import Cut, Sides, make_cut
from vlacut.pricing.price import in_cloud
from vlacut.split.pieces import engines_of
from vlacut_passes.partitioning.coded import Codecs, offered_codecs
from vlacut_passes.partitioning.limits import Quantity, within
from vlacut_passes.partitioning.on_reset import tasks_on_reset
from vlacut_passes.partitioning.pins import pinned
from vlacut_passes.partitioning.strategies import all_cloud, all_edge
from vlacut_passes.pool.candidate import (
    Candidate,
    doubled_bytes,
    keeps_pins,
    make_candidate,
    undominated,
)
from vlacut_passes.pool.candidates import best_placements, links_over
from vlacut_passes.pool.frontiers import boundary_blocks, frontiers
from vlacut_passes.pool.ledger import Ledger
from vlacut_passes.pool.selection import select


@dataclass(frozen=True)
class AddAlternatives:
    """Adds alternatives to CUTS, with the pool that they make. Needs `partition`.

    At every bandwidth, every variant keeps the limits that `partition` was given: pins, private
    inputs, compute in the cloud and the error of the action. Weights that the pool doubles come on
    top of the budget that the cut was chosen under.

    Attributes:
        pool: `block` or `portfolio:BYTES`. With `block`, operators of the boundary blocks may move,
            and at most the bytes of the heaviest transformer block among them are doubled (RoboECC,
            section IV-B.2, holds one block on both sides). With `portfolio:BYTES`, any operator may
            move, and at most so many bytes are doubled.
        bandwidth: see `vlacut.hardware.bandwidths`.
        engines: `segments`, small ones that the variants share, or `fused`, one per variant and
            side.

    Raises InputError for another pool or form of engines, PassError without `partition`.
    """

    name: ClassVar[str] = "alternatives"
    pool: str = "block"
    bandwidth: str = "0.1MB/s-100MB/s"
    engines: str = SEGMENTS

    def run(self, program: Program) -> None:
        """See `vlacut.ir.pipeline.Pass`."""
        kind, _, size = self.pool.partition(":")
        if (kind, bool(size)) not in (("block", False), ("portfolio", True)):
            raise InputError(
                f"pool={self.pool}: write block or portfolio:BYTES, e.g. portfolio:4MB"
            )
        if self.engines not in FORMS:
            raise InputError(f"engines={self.engines}: write {' or '.join(FORMS)}")
        dataflow = trace_dataflow(program)
        cuts, bandwidths = cuts_of(dataflow), parse_bandwidths(self.bandwidth)
        room = parse_bytes(size) if size else None
        with offered_codecs(dataflow, cuts.asked) as codecs:
            while True:
                search = _Search(dataflow, cuts, bandwidths, room, codecs)
                kept, measured = search.kept()
                measured = [codecs.bounded(cut) for cut in measured]
                wrong = next((cut for cut in measured if not codecs.bears(cut)), None)
                if wrong is None:
                    break
                codecs.tighten(wrong)
        names = [search.name(one, kept) for one in kept]
        named = (replace(cut, name=name) for name, cut in zip(names, measured, strict=True))
        considered = search.considered(dict(zip(names, kept, strict=True)))
        cuts = replace(
            cuts, alternatives=tuple(named), pool=self._pool(search, kept), considered=considered
        )
        CUTS.put(program, cuts)

    def _pool(self, search: _Search, kept: Sequence[Candidate]) -> Pool:
        placements = [one.sides for one in (search.chosen, *kept)]
        return Pool(
            name=self.pool,
            engines=self.engines,
            bandwidths=search.bandwidths.text,
            doubled_bytes=doubled_bytes(search.graph, search.chosen, kept),
            expected_s=search.expected_s([search.chosen, *kept]),
            alone_s=search.expected_s([search.chosen]),
            forms=tuple(engines_of(search.dataflow, placements, form) for form in FORMS),
        )


class _Search:
    """From the chosen cut to the pool. No room given: `block`."""

    def __init__(
        self,
        dataflow: Dataflow,
        cuts: Cuts,
        bandwidths: Bandwidths,
        room: int | None,
        codecs: Codecs,
    ) -> None:
        self.dataflow, self.bandwidths = dataflow, bandwidths
        self.link = cuts.asked.link
        self.graph = pinned(dataflow.cost_graph(), cuts.asked.pins)
        self._most_s = cuts.asked.cloud_s
        self._codecs = codecs
        self.chosen = make_candidate(self.graph, cuts.chosen, self.link)
        self._blocks = boundary_blocks(dataflow, self.chosen.sides)
        self._block_only = room is None
        self._room = self._heaviest() if room is None else room
        self._origins = self._placements()
        self._others: list[Candidate] = []
        self._good: list[Candidate] = []

    def kept(self) -> tuple[list[Candidate], list[Cut]]:
        """The alternatives, the best at high bandwidth first, and their cuts, with the errors of
        their codecs.
        """
        while True:
            self._others = self._candidates()
            fit = [
                one
                for one in self._others
                if doubled_bytes(self.graph, self.chosen, [one]) <= self._room
            ]
            points = self.bandwidths.seconds_per_byte
            self._good = undominated(self.graph, self.chosen, fit, points)
            kept = select(self.graph, self.chosen, self._good, self.bandwidths, self._room)
            cuts = [self._codecs.measured(one.cut) for one in kept]
            pairs = zip(kept, cuts, strict=True)
            wrong = next((one for one, cut in pairs if not self._codecs.keeps(cut)), None)
            if wrong is None:
                return kept, cuts
            self._codecs.restrict(self.graph, wrong.over, wrong.sides)

    def considered(self, kept: Mapping[str, Candidate]) -> tuple[Considered, ...]:
        """Every candidate, the chosen cut first; `kept` are those of the pool by name."""
        ledger = Ledger(self.dataflow, self.graph, self.bandwidths, self.chosen, self._room)
        return tuple(ledger.entries(self._origins, self._others, self._good, kept))

    def _candidates(self) -> list[Candidate]:
        """Every placement with the codecs that are cheapest at one bandwidth or another."""
        chosen = self.chosen
        found = {self._told_apart(chosen.sides, chosen.cut.crossings): chosen}
        for over in (self.link, *links_over(self.link, self.bandwidths)):
            graph = self._codecs.coded(self.graph, over)
            for sides, origin in self._origins.items():
                crossings = coded_crossings(graph, sides) if self._codecs.offered else ()
                key = self._told_apart(sides, crossings)
                if key not in found:
                    cut = make_cut(graph, sides, self.link, name="", origin=origin)
                    found[key] = make_candidate(graph, cut, self.link, over)
            if not self._codecs.offered:
                break
        return list(found.values())[1:]

    def _told_apart(self, sides: Sides, crossings: Sequence[CodedCrossing]) -> tuple[object, ...]:
        """What tells one placement with its codecs from another."""
        return sides, *((one.tensor, one.codec) for one in crossings)

    def _heaviest(self) -> int:
        """Bytes of the heaviest transformer block at the boundary; without any, of any block."""
        blocks = [block for block, _ in self._blocks]
        repeated = [block for block in blocks if block.repeated] or blocks
        return max((block.weight_bytes(self.graph) for block in repeated), default=0)

    def _placements(self) -> dict[Sides, str]:
        """Where each placement comes from; the first of equals has it."""
        found = {self.chosen.sides: CHOSEN}
        for block, upstream in self._blocks:
            for one in frontiers(block, upstream, self.chosen.sides):
                where = f"behind {one.place}" if one.place else "before its first place"
                found.setdefault(one.sides, f"{one.block}, {upstream} {where}")
        free = {task for block, _ in self._blocks for task in block.members}
        if not self._block_only:
            for name, cut in (("all-edge", all_edge), ("all-cloud", all_cloud)):
                found.setdefault(cut(self.graph), name)
            free = set(range(len(self.chosen.sides)))
        free -= tasks_on_reset(self.dataflow)  # no step is faster for it
        searched = best_placements(
            *(self.graph, self.chosen, self.link, self.bandwidths, self._room, free),
            self._codecs.coded,
        )
        for number, sides in enumerate(searched, start=1):
            found.setdefault(sides, f"exact search {number}")
        return {sides: origin for sides, origin in found.items() if self._allowed(sides)}

    def _allowed(self, sides: Sides) -> bool:
        """Whether a placement keeps the limits that hold at every bandwidth."""
        cloud_s = self.graph.columns.cloud_s[in_cloud(sides) == 1].sum()
        return keeps_pins(self.graph, sides) and within(
            Quantity.CLOUD_TIME, float(cloud_s), self._most_s
        )

    def expected_s(self, pool: Sequence[Candidate]) -> float:
        """The expected price of a step with the best of the pool."""
        points = np.array(self.bandwidths.seconds_per_byte)
        best = np.min([one.at(points) for one in pool], axis=0)
        return float(best @ np.array(self.bandwidths.shares))

    def name(self, one: Candidate, kept: Sequence[Candidate]) -> str:
        """`all-edge`, `all-cloud`, or `at-RATE`: the median bandwidth where a variant is best."""
        for name, side in (("all-edge", Side.EDGE), ("all-cloud", Side.CLOUD)):
            alike = [other for other in kept if all(home is side for home in other.sides[1:-1])]
            if alike[:1] == [one]:  # the others differ in their codecs
                return name
        points = np.array(self.bandwidths.seconds_per_byte)
        best = np.argmin([other.at(points) for other in (self.chosen, *kept)], axis=0)
        mine = points[best == 1 + kept.index(one)]
        rate = float(f"{1e-6 / float(np.median(mine)):.3g}")
        return f"at-{rate:g}MB/s"
