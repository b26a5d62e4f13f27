"""Pictures as numbers: what a template draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vlacut.cli.page.scales import Scale, Tick, coordinates

LOOKS = 8  # lines that can be told apart: see page.css


class Drawn(NamedTuple):
    """A line, or an area, and what it is called."""

    name: str
    look: str
    points: str


class Mark(NamedTuple):
    """A dashed line across at a place in per cent, with a word at it."""

    at: float
    text: str


class Segment(NamedTuple):
    """A piece of a bar: from where and how wide, in per cent."""

    name: str
    look: str
    start: float
    width: float
    text: str


@dataclass(frozen=True)
class Chart:
    """Lines over two axes.

    Attributes:
        title: what it shows, for those who do not see it, too.
        x, y: what the axes are.
        x_ticks, y_ticks: numbers on them.
        lines, areas: drawn in this order, areas first.
        marks: places on the x axis.
        levels: places on the y axis.
        right: another name of the y axis, with its own numbers.
        bands: spans of the x axis, behind everything.
    """

    title: str
    x: str
    y: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Drawn, ...] = ()
    areas: tuple[Drawn, ...] = ()
    marks: tuple[Mark, ...] = ()
    levels: tuple[Mark, ...] = ()
    right: str = ""
    right_ticks: tuple[Tick, ...] = ()
    bands: tuple[Segment, ...] = ()


class Bar(NamedTuple):
    """A row of a picture of bars.

    Attributes:
        segments: of it.
        at: where a mark stands; None for none.
    """

    segments: tuple[Segment, ...]
    at: float | None = None


def line(
    name: str, look: str, x: Scale, xs: Sequence[float], y: Scale, ys: Sequence[float]
) -> Drawn:
    """A line through points of these values."""
    return Drawn(name, look, coordinates([x.at(one) for one in xs], [y.at(one) for one in ys]))


def stacked(
    shares: Sequence[tuple[str, str, Sequence[float]]], x: Scale, xs: Sequence[float], y: Scale
) -> tuple[Drawn, ...]:
    """Areas above one another; each share is a name, a look and a value at each place."""
    places, below, made = [x.at(one) for one in xs], [0.0] * len(xs), []
    for name, look, values in shares:
        above = [low + value for low, value in zip(below, values, strict=True)]
        upper = coordinates(places, [y.at(one) for one in above])
        lower = coordinates(places[::-1], [y.at(one) for one in below[::-1]])
        made.append(Drawn(name, look, f"{upper} {lower}"))
        below = above
    return tuple(made)


def bar(parts: Sequence[tuple[str, str, float, str]], scale: Scale, mark: float | None) -> Bar:
    """A bar of parts: name, look, value, text; those of nothing are left out."""
    start, made = 0.0, []
    for name, look, value, text in parts:
        if value > 0:
            place = scale.at(start)
            made.append(Segment(name, look, place, round(scale.at(start + value) - place, 3), text))
            start += value
    return Bar(tuple(made), None if mark is None else scale.at(mark))
