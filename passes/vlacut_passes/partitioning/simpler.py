"""A simpler cut that costs hardly more: an engine and a frame less, for a hundredth of a step.

The exact search takes one more part, and one more frame per trip, to save the last microsecond of a
price that is itself a prediction. So the optimum is found and proven first. Then this looks for a
cut that costs at most a stated share more, has no more of any of these, and less of at least one:

    parts       pieces with an engine of their own
    hops        changes of side that follow one another in a control step: frames and waits
    crossings   tensors that cross

It tries the cuts of other strategies, and then moves parts of the cut to the other side: one, two,
or a phase's together. It takes the simplest result and repeats. This is a heuristic; but what it
takes is within the share and within all limits, by its price.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from vlacut.hardware import Link, Side
from vlacut.pricing.cost_graph import CostGraph
from vlacut.pricing.cut import Cut, Sides, make_cut
from vlacut.pricing.price import Price, price
from vlacut.split.pieces import places_of
from vlacut_passes.partitioning.limits import Limits, all_within, measured, within

SIMPLER = "simpler"
_MOST_PAIRED = 16  # parts of which two are moved together
Part = tuple[int, ...]


@dataclass(frozen=True)
class Complexity:
    """The three figures that make a cut less simple: see the module's docstring."""

    parts: int
    hops: int
    crossings: int

    @property
    def figures(self) -> tuple[int, int, int]:
        """All three."""
        return self.parts, self.hops, self.crossings

    def less_than(self, other: Complexity) -> bool:
        """Whether it has no more of anything, and less of something."""
        pairs = list(zip(self.figures, other.figures, strict=True))
        return all(mine <= its for mine, its in pairs) and self != other

    def __str__(self) -> str:
        return f"{self.parts} parts, {self.hops} hops and {self.crossings} crossings"


@dataclass(frozen=True)
class _Seen:
    sides: Sides
    price: Price
    value: float
    complexity: Complexity

    @property
    def rank(self) -> tuple[int, tuple[int, int, int], float]:
        """The simplest first; of those the cheapest."""
        return sum(self.complexity.figures), self.complexity.figures, self.value


def complexity_of(graph: CostGraph, sides: Sides, cost: Price) -> Complexity:
    """The complexity of a cut with its price."""
    return Complexity(len(parts_of(graph, sides)), cost.hops, cost.crossings)


def parts_of(graph: CostGraph, sides: Sides) -> list[Part]:
    """The tasks of every part that a cut is split into (`vlacut.split.pieces`)."""
    found: dict[tuple[object, ...], list[int]] = {}
    places = places_of(graph, sides)
    for task in range(1, len(sides) - 1):
        found.setdefault((graph.tasks[task].phase, places[task]), []).append(task)
    return [tuple(tasks) for tasks in found.values()]


def simpler_cut(
    graph: CostGraph,
    link: Link,
    limits: Limits,
    optimum: Sides,
    others: Iterable[Sides],
    share: float,
    kept: Callable[[Cut], Cut | None],
) -> tuple[Cut, Complexity, Complexity] | None:
    """A simpler cut, how simple it is, and how simple the optimum is; None if none was found.

    Args:
        graph: with the codecs of the optimum.
        link: it is priced over.
        limits: what is minimised, and what every cut keeps.
        optimum: the result of the search.
        others: other cuts to try.
        share: how much more of the objective a simpler cut may have, as a share of the optimum's.
        kept: gives a cut with its action's error; None if that is too large.
    """
    search = _Descent(graph, link, limits, optimum, share)
    first = current = search.seen(optimum)
    assert current is not None, "the optimum keeps the limits"
    assert first is not None
    best: Cut | None = None
    asked = list(others)
    while True:
        found = search.simpler(current, [*asked, *search.neighbours(current.sides)])
        for one in sorted(found, key=lambda one: one.rank):
            cut = kept(
                make_cut(graph, one.sides, link, name=SIMPLER, origin="simpler", known=one.price)
            )
            if cut is not None:
                best, current = cut, one
                break
        else:
            return None if best is None else (best, current.complexity, first.complexity)


class _Descent:
    def __init__(
        self, graph: CostGraph, link: Link, limits: Limits, optimum: Sides, share: float
    ) -> None:
        self._graph = graph
        self._link = link
        self._limits = limits
        value = measured(price(graph, optimum, link))[limits.minimise]
        self._most = value * (1 + share)

    def seen(self, sides: Sides) -> _Seen | None:
        """A cut as it is compared; None if it breaks a limit, or costs too much."""
        cost = price(self._graph, sides, self._link)
        amounts = measured(cost)
        value = amounts[self._limits.minimise]
        if not within(self._limits.minimise, value, self._most):
            return None
        if not all_within(amounts, self._limits.most):
            return None
        return _Seen(sides, cost, value, complexity_of(self._graph, sides, cost))

    def simpler(self, than: _Seen, cuts: Iterable[Sides]) -> list[_Seen]:
        """Those of some cuts that may be taken in the place of one."""
        found = map(self.seen, dict.fromkeys(cuts))
        return [one for one in found if one and one.complexity.less_than(than.complexity)]

    def neighbours(self, sides: Sides) -> Iterator[Sides]:
        """Cuts with one part of this one on the other side, or two, or all that a phase has on
        one side.
        """
        parts = parts_of(self._graph, sides)
        yield from (self._moved(sides, part) for part in parts)
        together: dict[tuple[int, Side], Part] = {}
        for part in parts:
            key = self._graph.tasks[part[0]].phase, sides[part[0]]
            together[key] = together.get(key, ()) + part
        yield from (self._moved(sides, part) for part in together.values())
        if len(parts) <= _MOST_PAIRED:
            yield from (self._moved(sides, one + two) for one, two in combinations(parts, 2))

    def _moved(self, sides: Sides, tasks: Sequence[int]) -> Sides:
        """With tasks on the other side, but for those that are pinned."""
        moved = list(sides)
        for task in tasks:
            if self._graph.tasks[task].pinned is None:
                moved[task] = sides[task].other
        return tuple(moved)
