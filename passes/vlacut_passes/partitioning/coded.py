"""The best cut and its codecs, within an error of the action.

The search chooses codecs with the cut (`vlacut.pricing.coding`). Then the model runs with them. If
the action is further off than allowed, the model runs once per coded crossing, with no other
crossing coded. The crossings with the most error for the seconds they save lose their codec, as few
as it takes, and the search starts again. Every round takes at least one codec from a tensor, so the
rounds end. At the end the cut gets codecs back: those it can bear after all, and those that other
cuts lost. The search starts again as long as that pays. The cut is the best one for the codecs that
are left. Which codecs these are is a heuristic.

What is measured is the error on the example and three variations of it. With a calibration it is
that on the example and some of the calibration's observations; the others have no say until the
cut is chosen. Then they bound its error (`Codecs.bounded`). If the bound is over the limit, the
search starts again with less error allowed on the first, as often as the others suffice for: the
k-th try under a limit may miss a share of (1 - coverage) / 2^k, so all of them together miss no
more than 1 - coverage. In the end tensors are left with codecs that lose nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from vlacut.errors import BackendError, InfeasibleError, InputError, ModelError
from vlacut.hardware import Link
from vlacut.ir.annotation import OFFERS, Asked
from vlacut.ir.dataflow import Dataflow
from vlacut.pricing.coding import (
    SECONDS,
    ActionError,
    Barred,
    Bound,
    CodedCrossing,
    Offers,
    Worth,
    cheapest,
    coded_crossings,
    crossing_alone,
)
from vlacut.pricing.cost_graph import CostGraph
from vlacut.pricing.cut import Cut, Sides
from vlacut.split.gauge import Gauge, gauging
from vlacut.split.observations import not_runnable
from vlacut.tensor.codec import Codec
from vlacut.tensor.split_conformal import rank_of
from vlacut_passes.partitioning.calibrated import level_of, lossless, read_calibration
from vlacut_passes.partitioning.limits import Limits
from vlacut_passes.partitioning.solver.search import Found
from vlacut_passes.partitioning.strategies import ALL_CLOUD_CODED, all_cloud, strategy_cut

_MARGIN = 1.25  # over what was measured: another processor rounds otherwise
_SHY = 0.9  # of the error that would just have been within the limit, after one that was not


@dataclass(frozen=True)
class Best:
    """The best cut with its codecs, their errors measured: its graph with coded flows, and what the
    search found there.
    """

    graph: CostGraph
    found: Found


class Codecs:
    """The codecs that tensors may have, fewer with every cut whose action is too far off.

    Args:
        offers: by flow.
        gauge: runs the model; None where that is not possible.
        why_not: why it is not.
        most: the largest error of the action that is allowed, in shares of its largest magnitude;
            infinite for any that is a number.
        coverage: of the bound, above 0 and below 1, if the gauge has a calibration.
        worth: what the cheapest codec of a flow is the cheapest in.
    """

    def __init__(
        self,
        offers: Offers,
        gauge: Gauge | None,
        why_not: str,
        most: float,
        coverage: float,
        worth: Worth = SECONDS,
    ) -> None:
        self._offers = offers
        self._gauge = gauge
        self._why_not = why_not
        self._most = most
        self._searched = most  # allowed on the observations that codecs are chosen on
        self._coverage = coverage
        self._tries = 1
        self._worth = worth
        self._barred: Barred = frozenset()

    @property
    def offered(self) -> bool:
        """Whether there are any."""
        return bool(self._offers)

    @property
    def note(self) -> str:
        """What a proof of optimality leaves out; empty if nothing."""
        if not self._offers:
            return ""
        left = ""
        if self._barred and self._gauge is not None:
            many = f"{self._gauge.observations} observations"
            left = f", for the codecs that the error of the action on {many} leaves"
        return f", every tensor in its cheapest form{left}"

    def best(self, graph: CostGraph, link: Link, search: Callable[[CostGraph], Found]) -> Best:
        """The best cut of a search over cuts of a coded graph, its action within the limit.

        Args:
            graph: without codecs.
            link: over which its flows cross.
            search: finds the best cut of a graph with coded flows.

        Raises InfeasibleError if no cut keeps the limits.
        """
        best = self._allowed(graph, link, search)
        tried: set[tuple[str, Codec]] = set()
        while True:
            barred = self._barred
            self._barred = self._readmitted(graph, link, best.found.sides, tried)
            if self._barred == barred:
                return best
            again = self._again(graph, link, search)
            if again is None or again.found.value >= best.found.value:
                self._barred = barred
                return best
            best = again

    def _again(
        self, graph: CostGraph, link: Link, search: Callable[[CostGraph], Found]
    ) -> Best | None:
        """Another cut, if there is one within the limits with the codecs that it may have."""
        try:
            return self._allowed(graph, link, search)
        except InfeasibleError:
            return None

    def _allowed(self, graph: CostGraph, link: Link, search: Callable[[CostGraph], Found]) -> Best:
        """The first cut found whose action is within the limit."""
        while True:
            coded = self.coded(graph, link)
            try:
                found = search(coded)
            except InfeasibleError as error:
                raise InfeasibleError(f"{error}{self.note}") from error
            found = replace(found, cut=self.measured(found.cut))
            if self.keeps(found.cut):
                return Best(coded, found)
            self.restrict(graph, link, found.sides)

    def _readmitted(
        self, graph: CostGraph, link: Link, sides: Sides, tried: set[tuple[str, Codec]]
    ) -> Barred:
        """The barred codecs without those that this cut can bear after all, and those that were
        barred for the sake of another cut; each is given back once.
        """
        barred, small = self._barred, crossing_alone(graph, sides)
        before = coded_crossings(self.coded(small, link), sides)
        for pair in sorted(barred - tried):
            tried.add(pair)
            left = self._cheapest(small, link, barred - {pair})
            crossings = coded_crossings(left, sides)
            elsewhere = all(flow.name != pair[0] for flow in small.flows)
            bearable = crossings != before and self._within(self._error(sides, crossings))
            if elsewhere or bearable:
                barred, before = barred - {pair}, crossings
        return barred

    def coded(self, graph: CostGraph, link: Link) -> CostGraph:
        """A graph with every flow in the cheapest form that is left."""
        return self._cheapest(graph, link, self._barred)

    def _cheapest(self, graph: CostGraph, link: Link, barred: Barred) -> CostGraph:
        return cheapest(graph, self._offers, link, barred, self._worth)

    def keeps(self, cut: Cut) -> bool:
        """Whether a cut's error is allowed, or unknown; an action that is no number never is."""
        return cut.error.measured is None or self._within(cut.error.measured)

    def measured(self, cut: Cut) -> Cut:
        """The cut with what its codecs do to the action: in shares of its largest magnitude, see
        `ActionError`; of each alone, too, where all together are allowed.

        Raises BackendError if the model does not run.
        """
        if not cut.crossings:
            return cut
        if self._gauge is None:
            return replace(cut, error=ActionError(None, None, 0, self._why_not))
        error, count = self._error(cut.sides, cut.crossings), self._gauge.observations
        if not self._within(error):
            return replace(cut, error=ActionError(error, self._most, count))
        alone = tuple(replace(one, alone=self._error(cut.sides, (one,))) for one in cut.crossings)
        allowed = ActionError(error, self._stated(error), count)
        return replace(cut, crossings=alone, error=allowed)

    def bounded(self, cut: Cut) -> Cut:
        """A cut with a bound on the error of fresh observations, if there is a calibration: the
        quantile of split conformal prediction, see `vlacut.tensor.split_conformal`.
        """
        if self._gauge is None or not self._gauge.held or not cut.crossings:
            return cut
        held, level, tries = self._gauge.held, self._level(self._tries), self._tries
        if rank_of(held, level) > held:  # what is left loses nothing, whatever the observation
            level, tries = self._coverage, 1
        codecs = {one.tensor: one.codec for one in cut.crossings}
        errors = sorted(self._gauge.held_errors(cut.sides, codecs))
        bound = Bound(errors[rank_of(held, level) - 1], self._coverage, held, level, tries)
        return replace(cut, error=replace(cut.error, bound=bound))

    def bears(self, cut: Cut) -> bool:
        """Whether its bound is within the limit; a cut without one is."""
        bound = cut.error.bound
        return bound is None or (bound.error <= self._most and math.isfinite(bound.error))

    def tighten(self, cut: Cut) -> None:
        """Allow less on the observations that codecs are chosen on, after a cut that was chosen
        there and whose bound is over the limit; or nothing at all, where no try is left.

        Less is what was measured, times the limit over the bound, times 0.9: as if both grew alike.
        """
        assert self._gauge is not None, "only what was calibrated has a bound"
        assert cut.error.bound is not None, "only what was calibrated has a bound"
        self._tries += 1
        bound, measured, held = cut.error.bound.error, cut.error.measured or 0.0, self._gauge.held
        share = self._most / bound
        if measured and 0 < share < 1 and rank_of(held, self._level(self._tries)) <= held:
            self._searched = _SHY * measured * share
        else:
            self._offers = lossless(self._offers)

    def _level(self, tries: int) -> float:
        """At which coverage a bound is taken."""
        return level_of(self._coverage, self._most, tries)

    def restrict(self, graph: CostGraph, link: Link, sides: Sides) -> None:
        """Bar codecs until a cut keeps the limit with what is left.

        First those that alone are too much, then those that save the fewest seconds for the error
        they make. As many as a binary search over that order finds.
        """
        small = crossing_alone(graph, sides)
        crossings = coded_crossings(self.coded(small, link), sides)
        ranked = sorted(crossings, key=lambda one: self._saved_by_error(small, link, sides, one))
        pairs = [(one.tensor, one.codec) for one in ranked]
        low, high = 1, len(pairs)
        while low < high:
            middle = (low + high) // 2
            left = self._cheapest(small, link, self._barred | set(pairs[:middle]))
            if self._within(self._error(sides, coded_crossings(left, sides))):
                high = middle
            else:
                low = middle + 1
        self._barred = self._barred | set(pairs[:low])

    def _saved_by_error(
        self, small: CostGraph, link: Link, sides: Sides, one: CodedCrossing
    ) -> float:
        """Seconds that a codec saves over the next best, for each unit of error; 0 if too much."""
        error = self._error(sides, (one,))
        if not self._within(error):
            return 0.0
        without = self._barred | {(one.tensor, one.codec)}
        saved_s = sum(
            flow.crossing_s(sides[flow.producer], link) * sign
            for barred, sign in ((without, 1), (self._barred, -1))
            for flow in self._cheapest(small, link, barred).flows
            if flow.name == one.tensor
        )
        return saved_s / error if error else math.inf

    def _within(self, error: float) -> bool:
        return error <= self._searched and math.isfinite(error)

    def _error(self, sides: Sides, crossings: tuple[CodedCrossing, ...]) -> float:
        assert self._gauge is not None, "only what was measured is too far off"
        codecs: Mapping[str, Codec] = {one.tensor: one.codec for one in crossings}
        return self._gauge.error(sides, codecs) if codecs else 0.0

    def _stated(self, measured: float) -> float:
        """What `verify` allows: what was asked for, else somewhat more than was measured."""
        if math.isfinite(self._most) or measured == 0:
            return self._most if math.isfinite(self._most) else 0.0
        digits = 1 - math.floor(math.log10(measured * _MARGIN))
        return math.ceil(measured * _MARGIN * 10.0**digits) / 10.0**digits


@contextmanager
def offered_codecs(dataflow: Dataflow, asked: Asked, worth: Worth = SECONDS) -> Iterator[Codecs]:
    """The codecs that `annotate-codecs` offers, with the model ready to be run if it can be.

    Args:
        dataflow: of the program.
        asked: the link for the parts that are run, the largest error of the action that is allowed,
            and what calibrates it.
        worth: what the cheapest codec of a flow is the cheapest in.

    Raises InputError if there is a limit or a calibration where the error cannot be measured, or no
    codec was asked for; or if a calibration has too few observations. A program that has nothing to
    code keeps every limit.
    """
    found, gauge, why_not = OFFERS.find(dataflow.program), None, ""
    offers, most, held_to = found or {}, asked.action_error, ""
    if most < math.inf:
        held_to = f"an action error of {most:g} limits what codecs may do"
    if asked.calibration:
        held_to = f"{asked.calibration} calibrates what codecs do"
    if held_to and found is None:
        raise InputError(f"{held_to}; add --codecs")
    calibration = read_calibration(dataflow, asked) if offers and asked.calibration else []
    with ExitStack() as stack:
        if offers:
            why_not = not_runnable(dataflow.program)
        if offers and not why_not:
            try:
                made = gauging(dataflow, asked.link, calibration=calibration)
                gauge = stack.enter_context(made)
            except (BackendError, ModelError) as error:
                why_not = str(error)
        if held_to and why_not:
            raise InputError(f"the error of the action cannot be measured here: {why_not}")
        yield Codecs(offers, gauge, why_not, most, asked.coverage, worth)


def parse_action_error(text: str) -> float:
    """The largest error of the action that a text allows, in shares of its largest magnitude;
    infinite if it is empty.

    Raises InputError if it is no number, or below 0.
    """
    try:
        most = float(text or math.inf)
    except ValueError:
        most = -1.0
    if not most >= 0:
        raise InputError(f"action error {text!r}: write a share of the action's magnitude: 0.01")
    return most


def all_cloud_coded(coded: CostGraph, codecs: Codecs, link: Link, limits: Limits) -> Iterator[Cut]:
    """Everything in the cloud with codecs on what crosses; nothing where none pays."""
    cut = strategy_cut(ALL_CLOUD_CODED, coded, all_cloud(coded), link, limits)
    if not cut.crossings:
        return
    cut = codecs.measured(cut)
    if not codecs.keeps(cut):
        many = f"{cut.error.observations} observations"
        error = f"the error of the action is {cut.error.measured:.3g} on {many}, over the limit"
        cut = replace(cut, why_not="; ".join(filter(None, (error, cut.why_not))))
    yield cut
