"""`calibrate-precision`: the table of the switch of precision, from episodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vlacut.bundle.reading import open_bundle
from vlacut.cli.arguments import BUNDLE
from vlacut.cli.show.output import check_place, console, json_option, print_json, say_next, table
from vlacut.cli.show.progress import progress_bar
from vlacut.control.precision_table import PrecisionTable, write_precision_table
from vlacut.control.recording.episodes import read_episodes
from vlacut.measurement.actions.precision import ALPHA, PrecisionWorth, calibrate_precision

OWN = "as it is"


def _columns(context: click.Context, option: click.Parameter, value: str) -> tuple[int, ...]:
    """`0:1:2` as numbers."""
    parts = value.split(":") if value else []
    if not all(part.isdecimal() for part in parts):
        raise click.BadParameter(f"{value!r}: write columns with : between, e.g. 0:1:2")
    return tuple(int(part) for part in parts)


@click.command("calibrate-precision")
@BUNDLE
@click.argument("episodes", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="File: .json.")
@click.option(
    "--translation", default="0:1:2", show_default=True, callback=_columns, help="Columns."
)
@click.option("--rotation", default="3:4:5", show_default=True, callback=_columns, help="Columns.")
@click.option(
    "--alpha",
    default=ALPHA,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of errors that may be more than is allowed.",
)
@click.option(
    "--eps",
    type=click.FloatRange(0, min_open=True),
    help="Error that is allowed, in shares of ranges; the policy's own variation, without it.",
)
@click.option(
    "--every", default=5, show_default=True, type=click.IntRange(1), help="Precisions run on."
)
@json_option
def precision_command(path: Path, episodes: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Fit the switch of precision to recorded EPISODES.

    EPISODES is a file of vlacut run --record; BUNDLE was compiled with --precisions. Every
    precision runs on some of the ticks, both sides of the bundle here. The file is for the
    controller dyq: vlacut run --rate 20 --controller dyq --precision-table FILE.
    """
    check_place(out)
    bundle, recorded = open_bundle(path), read_episodes(episodes)
    with progress_bar() as progress:
        made, worth = calibrate_precision(bundle, recorded, progress=progress, **options)
    write_precision_table(out, made)
    if as_json:
        print_json(_json(made, worth))
    else:
        _show(made, worth)
        say_next(f"vlacut run {path} --rate 20 --controller dyq --precision-table {out}")


def _json(made: PrecisionTable, worth: PrecisionWorth) -> dict[str, Any]:
    return {
        "ticks": worth.ticks,
        "episodes": worth.episodes,
        "measured": worth.measured,
        "switches_per_tick": worth.switches,
        "correlation": worth.correlation,
        "alpha": made.alpha,
        "edges": list(made.edges),
        "levels": [made.precisions[level] or OWN for level in made.levels],
        "eps": list(made.eps),
        "counts": list(made.counts),
        "precisions": [
            {"precision": name or OWN, "errors": list(row), "share": worth.shares[name]}
            for name, row in zip(made.precisions, made.errors, strict=True)
        ],
    }


def _show(made: PrecisionTable, worth: PrecisionWorth) -> None:
    out = console()
    names = [name or OWN for name in made.precisions]
    lows = ["", *(f"{edge:.3f}" for edge in made.edges)]
    rows = [
        (
            f"from {low}" if low else "below",
            str(made.counts[place]),
            f"{made.eps[place]:.4f}",
            *(f"{row[place]:.2g}" for row in made.errors),
            names[made.levels[place]],
        )
        for place, low in enumerate(lows)
    ]
    columns = ("sensitivity", "ticks", "allowed", *names, "takes")
    title = f"error that {made.alpha:.0%} of the ticks exceed, as a share of ranges"
    out.print(table(title, columns, rows, left=1))
    said = ", ".join(
        f"{names[place]} {worth.shares[one]:.1%}" for place, one in enumerate(made.precisions)
    )
    out.print(
        f"\n{worth.measured} of {worth.ticks} ticks in {worth.episodes} episodes; in force there: "
        f"{said}; {worth.switches:.3f} switches a tick"
    )
    out.print(f"correlation of sensitivity and the error of {names[-1]}: {worth.correlation:.2f}")
