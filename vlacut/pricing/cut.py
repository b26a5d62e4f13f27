"""A cut: a side for every task, what crosses in which form, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vlacut.hardware import Link, Side
from vlacut.pricing.coding import (
    EXACT,
    ActionError,
    Choices,
    CodedCrossing,
    choices_of,
    coded_crossings,
)
from vlacut.pricing.cost_graph import CostGraph
from vlacut.pricing.price import Price, Strategy, price

Sides = tuple[Side, ...]


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One way to cut a program, as every pass hands it to the next.

    Attributes:
        name: of the strategy or the variant.
        origin: how it was found.
        sides: of every task.
        price: of a control step, over the link that it was made for.
        choices: the codecs of every flow, by name, whether it crosses or not.
        crossings: that are coded.
        error: of the action, for the codecs.
        why_not: the limits it breaks, and by how much; empty if it keeps them.
    """

    name: str
    origin: str
    sides: Sides
    price: Price
    choices: Choices = field(default_factory=dict)
    crossings: tuple[CodedCrossing, ...] = ()
    error: ActionError = EXACT
    why_not: str = ""

    @property
    def feasible(self) -> bool:
        """Whether it keeps the limits."""
        return not self.why_not

    @property
    def row(self) -> Strategy:
        """Its row in the report."""
        return Strategy(self.name, self.price, self.feasible, self.why_not)


def make_cut(
    graph: CostGraph,
    sides: Sequence[Side],
    link: Link,
    *,
    name: str,
    origin: str,
    known: Price | None = None,
) -> Cut:
    """The cut of a graph with these sides, its flows coded as they are in the graph.

    `known` is its price where the caller has it. Raises ValueError if a pin is not kept.
    """
    return Cut(
        name=name,
        origin=origin,
        sides=tuple(sides),
        price=known or price(graph, sides, link),
        choices=choices_of(graph),
        crossings=coded_crossings(graph, sides),
    )
