"""Variants: the cuts of a program as its plan has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vlacut.hardware import Link
from vlacut.ir.dataflow import Dataflow
from vlacut.plans.plan import Variant
from vlacut.pricing.cut import Cut
from vlacut.pricing.price import price
from vlacut.split.parts import Split


def variants_of(
    dataflow: Dataflow, cuts: Sequence[Cut], parts: Split, link: Link
) -> Iterator[Variant]:
    """A variant for every cut, by its name, with the schedules of a split by these cuts."""
    on_reset = dataflow.reset_graph()
    for cut, schedule, first in zip(cuts, parts.schedules, parts.firsts, strict=True):
        more = None if on_reset is None else price(on_reset, cut.sides, link)
        yield Variant(cut.name, schedule, cut.price, cut.crossings, cut.error, first, more)
