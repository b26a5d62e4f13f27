"""What a sweep looks like: a table, a plot in the terminal, a figure in a file, and JSON."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from vlacut.cli.show.output import milliseconds, rate, size, table
from vlacut.cli.show.report import GOALS, certificate_json, proof, strategy_json
from vlacut.compiler.sweep import CLOUD_BUDGET, LINK, Axis, Point
from vlacut.pricing.price import Price

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 98, 20
_KEPT = "not-adjusted"  # the cut for the link asked for, as it is
_UNITS = {LINK: ("link, MB/s", 1e6), CLOUD_BUDGET: ("cloud budget, GB", 1e9)}


def sweep_json(axis: Axis, points: Sequence[Point]) -> dict[str, Any]:
    """The points: `amount`, `strategies`, `certificate`, `why_not` and `kept_ms` of each.

    An amount is in bytes per second of the link, or bytes of the budget.
    """
    return {
        "sweep": axis.name,
        "points": [
            {
                "amount": point.amount,
                "strategies": [strategy_json(strategy) for strategy in point.strategies],
                "certificate": certificate_json(point.certificate) if point.certificate else None,
                "why_not": point.why_not,
                "kept_ms": None if point.kept_s is None else point.kept_s * 1e3,
            }
            for point in points
        ],
    }


def show_sweep(console: Console, axis: Axis, points: Sequence[Point]) -> None:
    """Print the frontier in milliseconds per control step, as a table that fits a terminal, and as
    a plot under it.
    """
    names, goal = _names(points), _goal(points)
    columns = (axis.name, "chosen", *goal, "hops", "cloud holds", *names)
    columns = tuple(re.sub("[ -]", "\n", name) for name in columns)
    rows = [_row(axis, point, goal, names) for point in points]
    console.print(table("Milliseconds per control step, by strategy", columns, rows))
    console.print("* is not allowed there; - is no cut at all", style="dim")
    for point in points:
        for said in filter(None, (point.why_not, _unproven(point))):
            console.print(f"{_amount(axis, point)}: {said}", style="dim")
    if names:
        width = min(_WIDTH, console.width)
        console.print(Text.from_ansi(f"\n{_terminal_plot(axis, points, names, width)}"))


def _unproven(point: Point) -> str:
    """What is not proven of the chosen cut; empty if nothing."""
    found = point.certificate
    return proof(found) if found and not found.proven else ""


def _names(points: Sequence[Point]) -> list[str]:
    """What stands beside the chosen cut, in the order of the report."""
    found = dict.fromkeys(row.name for point in points for row in point.strategies[1:])
    kept = any(point.kept_s is not None for point in points)
    return [*found, *([_KEPT] if kept else [])]


def _goal(points: Sequence[Point]) -> dict[str, Callable[[Price], str]]:
    """What a price has of what was minimised, under its heading; nothing for the latency."""
    (goal,) = {point.certificate.minimised for point in points if point.certificate} or {""}
    return {goal: GOALS[goal][1]} if goal in GOALS else {}


def _row(
    axis: Axis,
    point: Point,
    goal: Mapping[str, Callable[[Price], str]],
    names: Sequence[str],
) -> tuple[str, ...]:
    amount, found = _amount(axis, point), _spent(point)
    cells = (_cell(*found[name]) if name in found else "-" for name in names)
    if not point.strategies:
        return amount, *("-",) * (3 + len(goal)), *cells
    chosen = point.strategies[0].price
    taken = milliseconds(chosen.total_s) + ("~" if _unproven(point) else "")
    least = [text(chosen) for text in goal.values()]
    return amount, taken, *least, str(chosen.hops), size(chosen.cloud_weight_bytes), *cells


def _spent(point: Point) -> dict[str, tuple[float, bool]]:
    """Seconds by what stands beside the chosen cut, and whether it is allowed."""
    found = {row.name: (row.price.total_s, row.feasible) for row in point.strategies[1:]}
    return found if point.kept_s is None else {**found, _KEPT: (point.kept_s, True)}


def _cell(seconds: float, allowed: bool) -> str:
    return milliseconds(seconds) + ("" if allowed else "*")


def _amount(axis: Axis, point: Point) -> str:
    return rate(point.amount) if axis.name == LINK else size(point.amount)


@dataclass(frozen=True)
class _Line:
    """Where something is, its milliseconds there, and whether it is allowed."""

    places: list[float]
    spent: list[float]
    allowed: list[bool]


def _lines(axis: Axis, points: Sequence[Point], names: Sequence[str]) -> Mapping[str, _Line]:
    """What stands in the table, by name; the chosen cut last, to be on top."""
    _, unit = _UNITS[axis.name]
    lines = {name: _Line([], [], []) for name in (*names, "chosen")}
    for point in points:
        found = _spent(point)
        if point.strategies:
            found["chosen"] = point.strategies[0].price.total_s, True
        for name, (seconds, allowed) in found.items():
            lines[name].places.append(point.amount / unit)
            lines[name].spent.append(seconds * 1e3)
            lines[name].allowed.append(allowed)
    return lines


def _terminal_plot(axis: Axis, points: Sequence[Point], names: Sequence[str], width: int) -> str:
    """Milliseconds by strategy, both on a logarithmic scale; its letters in a line above it."""
    import plotext

    plotext.clear_figure()
    plotext.plot_size(width, _HEIGHT)
    plotext.theme("clear")
    plotext.ylabel("ms")
    plotext.yscale("log")
    if axis.name == LINK:
        plotext.xscale("log")
    _, unit = _UNITS[axis.name]
    letters = {name: chr(ord("a") + index) for index, name in enumerate(names)}
    letters["chosen"] = "#"
    for name, line in _lines(axis, points, names).items():
        plotext.plot(line.places, line.spent, marker=letters[name])
    shown = points[::3]
    plotext.xticks([point.amount / unit for point in shown], [_amount(axis, one) for one in shown])
    joined = "\N{NO-BREAK SPACE}"  # a letter stays with its name
    legend = "  ".join(f"{letter}{joined}{name}" for name, letter in letters.items())
    lines = textwrap.fill(legend, width, break_on_hyphens=False).replace(joined, " ")
    return f"{lines}\n{plotext.build()}"


def draw_sweep(figure: Figure, title: str, axis: Axis, points: Sequence[Point]) -> None:
    """Draw the frontier in milliseconds: the chosen cut's time by where it goes, and the table's
    rest.

    What is not allowed is dotted. Where things happen at once, each has its share of the step.
    """
    axes = figure.subplots()
    label, unit = _UNITS[axis.name]
    _draw_shares(axes, unit, [point for point in points if point.strategies])
    for name, line in _lines(axis, points, _names(points)).items():
        width = 2.5 if name == "chosen" else 1.2
        (drawn,) = axes.plot(line.places, line.spent, ":", linewidth=width)
        pairs = zip(line.spent, line.allowed, strict=True)
        solid = [spent if allowed else math.nan for spent, allowed in pairs]
        axes.plot(line.places, solid, label=name, linewidth=width, color=drawn.get_color())
    if axis.name == LINK:
        axes.set_xscale("log")
    axes.set(title=title, xlabel=label, ylabel="ms a control step")
    axes.legend(fontsize="small")


def _draw_shares(axes: Axes, unit: float, points: Sequence[Point]) -> None:
    """What the chosen cut's time goes into, stacked; what it never goes into is left out."""
    if not points:
        return
    shares = [_shares(point.strategies[0].price) for point in points]
    stacks = {f"chosen: {name}": [share[name] * 1e3 for share in shares] for name in shares[0]}
    shown = {name: stack for name, stack in stacks.items() if any(stack)}
    places = [point.amount / unit for point in points]
    axes.stackplot(places, list(shown.values()), labels=list(shown), alpha=0.4)
    axes.set_ylim(0, 4e3 * max(point.strategies[0].price.total_s for point in points))


def _shares(price: Price) -> dict[str, float]:
    """Seconds of a control step by what they go into, what overlaps shared out alike."""
    scale = price.total_s / price.serial_s if price.serial_s else 0.0
    spent = {
        "edge": price.edge_s,
        "cloud": price.cloud_s,
        "codecs": price.codec_s,
        "network": price.up_s + price.down_s + price.hop_s,
    }
    return {name: seconds * scale for name, seconds in spent.items()}
