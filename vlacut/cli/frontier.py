"""What a sweep looks like: a table, a plot in the terminal, a figure in a file, and JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from vlacut.cli.output import milliseconds, rate, size, table
from vlacut.cli.report import strategy_json
from vlacut.errors import InputError
from vlacut.pricing import Strategy
from vlacut.sweep import CLOUD_BUDGET, LINK, Axis, Point

_WIDTH, _HEIGHT = 98, 20
_UNITS = {LINK: ("link, MB/s", 1e6), CLOUD_BUDGET: ("cloud budget, GB", 1e9)}


def sweep_json(axis: Axis, points: Sequence[Point]) -> dict[str, Any]:
    """The points: `amount`, `strategies` and `why_not` of each."""
    return {
        "sweep": axis.name,
        "points": [
            {
                "amount": point.amount,
                "strategies": [strategy_json(strategy) for strategy in point.strategies],
                "why_not": point.why_not,
            }
            for point in points
        ],
    }


def show_sweep(console: Console, axis: Axis, points: Sequence[Point]) -> None:
    """The frontier as a table that fits a terminal, and as a plot under it."""
    names = _names(points)
    columns = (axis.name, "chosen", "hops", "cloud holds", *names)
    columns = tuple(re.sub("[ -]", "\n", name) for name in columns)
    rows = [_row(axis, point, names) for point in points]
    console.print(table("Milliseconds a control step, by strategy", columns, rows))
    console.print("* is not allowed there; - is no cut at all", style="dim")
    for point in points:
        if point.why_not:
            console.print(f"{_amount(axis, point)}: {point.why_not}", style="dim")
    if names:
        console.print(Text.from_ansi(f"\n{_terminal_plot(axis, points, names)}"))


def _names(points: Sequence[Point]) -> list[str]:
    """Strategies beside the chosen one, in the order of the report."""
    found = dict.fromkeys(row.name for point in points for row in point.strategies[1:])
    return list(found)


def _row(axis: Axis, point: Point, names: Sequence[str]) -> tuple[str, ...]:
    amount = _amount(axis, point)
    if not point.strategies:
        return amount, *("-",) * (3 + len(names))
    chosen = point.strategies[0].price
    found = {row.name: row for row in point.strategies[1:]}
    return (
        amount,
        milliseconds(chosen.total_s),
        str(chosen.hops),
        size(chosen.cloud_weight_bytes),
        *(_cell(found.get(name)) for name in names),
    )


def _cell(row: Strategy | None) -> str:
    return milliseconds(row.price.total_s) + ("" if row.feasible else "*") if row else "-"


def _amount(axis: Axis, point: Point) -> str:
    return rate(point.amount) if axis.name == LINK else size(point.amount)


def _lines(
    axis: Axis, points: Sequence[Point], names: Sequence[str]
) -> Mapping[str, tuple[list[float], list[float]]]:
    """Per strategy, where it is and its milliseconds there; the chosen one last, to be on top."""
    _, unit = _UNITS[axis.name]
    lines: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in names}
    lines["chosen"] = [], []
    for point in points:
        for index, row in enumerate(point.strategies):
            places, spent = lines["chosen" if index == 0 else row.name]
            places.append(point.amount / unit)
            spent.append(row.price.total_s * 1e3)
    return lines


def _terminal_plot(axis: Axis, points: Sequence[Point], names: Sequence[str]) -> str:
    """Milliseconds by strategy, both on a logarithmic scale; its letters in a line above it."""
    import plotext

    plotext.clear_figure()
    plotext.plot_size(_WIDTH, _HEIGHT)
    plotext.theme("clear")
    plotext.ylabel("ms")
    plotext.yscale("log")
    if axis.name == LINK:
        plotext.xscale("log")
    _, unit = _UNITS[axis.name]
    letters = {name: chr(ord("a") + index) for index, name in enumerate(names)}
    letters["chosen"] = "#"
    for name, (places, spent) in _lines(axis, points, names).items():
        plotext.plot(places, spent, marker=letters[name])
    shown = points[::3]
    plotext.xticks([point.amount / unit for point in shown], [_amount(axis, one) for one in shown])
    legend = "  ".join(f"{letter} {name}" for name, letter in letters.items())
    return f"{legend}\n{plotext.build()}"


def write_plot(path: Path, title: str, axis: Axis, points: Sequence[Point]) -> None:
    """The frontier as a figure: the chosen cut's time by where it goes, and every strategy.

    Raises InputError without matplotlib, or where the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("--plot needs matplotlib: pip install 'vlacut[plot]'") from error
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    label, unit = _UNITS[axis.name]
    kept = [point for point in points if point.strategies]
    chosen = [point.strategies[0].price for point in kept]
    parts = {
        "chosen: edge": [price.edge_s * 1e3 for price in chosen],
        "chosen: cloud": [price.cloud_s * 1e3 for price in chosen],
        "chosen: network": [(price.total_s - price.local_s) * 1e3 for price in chosen],
    }
    places = [point.amount / unit for point in kept]
    axes.stackplot(places, list(parts.values()), labels=list(parts), alpha=0.4)
    for name, (at, spent) in _lines(axis, points, _names(points)).items():
        axes.plot(at, spent, label=name, linewidth=2.5 if name == "chosen" else 1.2)
    if axis.name == LINK:
        axes.set_xscale("log")
    if chosen:
        axes.set_ylim(0, 4 * max(price.total_s for price in chosen) * 1e3)
    axes.set(title=title, xlabel=label, ylabel="ms a control step")
    axes.legend(fontsize="small")
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write the plot {path}: {error}") from error
